"""Keeps streams that any process can follow.

The text that a process writes stays in its own memory: when Redis fails, those who follow elsewhere are delayed, and
when Redis is back it gets what it lacks.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from uuid import UUID

from redis.exceptions import RedisError

from app.core.periodic import keep_running
from app.core.redis import connect
from app.core.streams.base import Chunk, TextStream
from app.core.streams.memory import MemoryTextStreams
from app.core.streams.redis_reader import RedisReader
from app.core.streams.redis_writer import RedisWriter

CONNECTIONS = 4
"""Limits the connections that read; one more writes."""
SECONDS = 5.0
"""Waits for Redis for longer than others do: a busy process must not take its own delay for a failure."""


@asynccontextmanager
async def open_redis_streams(url: str, prefix: str) -> AsyncGenerator["RedisTextStreams"]:
    """Opens streams with connections of their own, which nobody else can use up."""
    async with (
        connect(url, 1, SECONDS, retries=0) as writing,  # a retry could append a text twice
        connect(url, CONNECTIONS, SECONDS) as reading,
    ):
        events = RedisTextStreams(RedisWriter(writing, f"{prefix}:log"), RedisReader(reading, f"{prefix}:log"))
        parts = {"redis sender": events.sender.run, "redis reader": events.mirrors.run}
        tasks = [asyncio.create_task(keep_running(name, run)) for name, run in parts.items()]
        try:
            yield events
        finally:
            events.sender.stop()
            await events.mirrors.stop()
            await asyncio.gather(*tasks)


class RedisTextStreams:
    outlives_its_process = True

    def __init__(self, sender: RedisWriter, mirrors: RedisReader) -> None:
        self._own = MemoryTextStreams()
        self.sender = sender
        self.mirrors = mirrors

    def __contains__(self, key: object) -> bool:
        return key in self._own

    def open(self, key: UUID, text: str = "") -> TextStream:
        log = self._own.open(key, text)
        self.sender.add(key, log)
        return log

    def append(self, key: UUID, text: str) -> None:
        self._own.append(key, text)
        self.sender.send(key)

    def close(self, key: UUID, end: str) -> None:
        self._own.close(key, end)
        self.sender.end(key)

    def follow(self, key: UUID, offset: int = 0) -> AsyncGenerator[Chunk]:
        return (self._own if key in self._own else self.mirrors).follow(key, offset)

    def nudge(self, key: UUID) -> None:
        self._own.nudge(key)
        self.mirrors.nudge(key)

    async def texts(self, keys: Collection[UUID]) -> Mapping[UUID, str]:
        try:
            return await self.mirrors.texts(keys)
        except (RedisError, OSError):
            return {}
