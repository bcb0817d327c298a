"""Sends to Redis the texts that this process writes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from app.core.streams.base import KEEP_SECONDS, TextStream
from app.core.streams.redis_format import AGAIN_SECONDS, ANEW, Client, encode

EXPIRE_SECONDS = 3600
"""Limits the life of a text in Redis to more than a reply takes; one that grows for longer is written anew."""

log = structlog.stdlib.get_logger("app.events")


@dataclass(slots=True)
class _Sent:
    """Records how much of a text Redis has."""

    log: TextStream
    characters: int = 0
    size: int = 0
    """Counts bytes, as Redis does."""
    unsure: bool = True
    """Tells that the whole text must be written: Redis has nothing yet, or nobody knows how much."""


class RedisWriter:
    """Sends from one task per process, so that what waits meanwhile goes out together, in one round trip."""

    def __init__(self, redis: Client, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._logs: dict[UUID, _Sent] = {}
        self._waiting: set[UUID] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._failures = 0

    @property
    def _down(self) -> bool:
        """Tells whether Redis is down. One failure is not enough: the connection may have died since its last use."""
        return self._failures > 1

    def add(self, key: UUID, log: TextStream) -> None:
        self._logs[key] = _Sent(log)

    def send(self, key: UUID) -> None:
        if key in self._logs:
            self._waiting.add(key)
            self._wake.set()

    def end(self, key: UUID) -> None:
        """Sends for the last time, and retries for as long as the stream is kept."""
        self.send(key)
        asyncio.get_running_loop().call_later(KEEP_SECONDS, self._forget, key)

    def stop(self) -> None:
        """Stops `run` once what waits has been sent, or at once if Redis is down."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        while not self._stopping or self._waiting:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._send_what_waits()
                if self._down and self._stopping:
                    return

    async def _send_what_waits(self) -> None:
        keys, self._waiting = self._waiting, set()
        try:
            await self._send({key: self._logs[key] for key in keys})
            self._failures = 0
        except (RedisError, OSError) as error:
            self._fail(keys & self._logs.keys(), error)
            if self._down:
                await asyncio.sleep(AGAIN_SECONDS)

    def _fail(self, keys: set[UUID], error: Exception) -> None:
        self._failures += 1
        if self._failures == 2:
            log.warning("redis is down, readers in other processes poll the database", error=type(error).__name__)
        self._waiting |= keys
        for key in keys:
            self._logs[key].unsure = True

    async def _send(self, logs: Mapping[UUID, _Sent]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        steps = [self._add_to(pipeline, key, sent) for key, sent in logs.items()]
        results = await pipeline.execute()
        for (key, sent), step in zip(logs.items(), steps, strict=True):
            sent.characters, sent.size = step.characters, step.size
            sent.unsure = results[step.place] not in (True, step.size)
            if sent.unsure:
                self.send(key)
            elif step.ended:
                self._forget(key)

    def _add_to(self, pipeline: Client, key: UUID, sent: _Sent) -> "_Step":
        name, text, end = f"{self._prefix}:{key}", sent.log.text, sent.log.end
        place = len(pipeline)
        if sent.unsure:
            size = len(data := encode(text, end))
            pipeline.set(name, data, ex=EXPIRE_SECONDS)
            pipeline.publish(name, ANEW)
        else:
            data = encode(text[sent.characters :], end)
            size = sent.size + len(data)
            pipeline.append(name, data)
            pipeline.publish(name, b"%d " % sent.characters + data)
        if end is not None:
            pipeline.expire(name, int(KEEP_SECONDS))
        return _Step(place, len(text), size, end is not None)

    def _forget(self, key: UUID) -> None:
        self._logs.pop(key, None)
        self._waiting.discard(key)


@dataclass(frozen=True, slots=True)
class _Step:
    """Records what was sent of a text, and which result of the pipeline tells whether Redis now has as much."""

    place: int
    characters: int
    size: int
    ended: bool
