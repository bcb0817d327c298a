"""Reads from Redis the texts that other processes write."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, suppress
from typing import Any
from uuid import UUID, uuid4

from redis.exceptions import RedisError

from app.core.streams.base import Chunk, TextStream
from app.core.streams.redis_format import AGAIN_SECONDS, ANEW, Client, decode

IDLE_SECONDS = 1.0
BURST, BURST_SECONDS = 500, 0.001


class RedisReader:
    """Copies texts that are written elsewhere, for as long as somebody follows them.

    One task per process owns the connection that subscribes: two would get in each other's way when it breaks.
    """

    def __init__(self, redis: Client, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._own_channel = f"{prefix}:{uuid4()}"
        """Names the channel on which this process publishes to wake its own task."""
        self._logs: dict[UUID, TextStream] = {}
        self._readers = Counter[UUID]()
        self._subscribed: set[UUID] = set()
        self._outdated: set[UUID] = set()
        self._stopping = False

    async def follow(self, key: UUID, offset: int = 0) -> AsyncGenerator[Chunk]:
        log = self._logs.setdefault(key, TextStream())
        self._readers[key] += 1
        try:
            if self._readers[key] == 1:
                self._outdated.add(key)  # if it is still subscribed, no confirmation will say so
                await self._wake()
            async with aclosing(log.follow(offset)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:  # without waiting for anything: this may be a cancellation
            self._readers[key] -= 1
            if not self._readers[key]:
                del self._readers[key], self._logs[key]

    def nudge(self, key: UUID) -> None:
        if log := self._logs.get(key):
            log.nudge()

    async def texts(self, keys: Collection[UUID]) -> Mapping[UUID, str]:
        return {key: text for key, (text, _end) in (await self._read(keys)).items()}

    async def stop(self) -> None:
        """Stops the task by a flag and not by a cancellation, which redis-py can lose while it connects."""
        self._stopping = True
        await self._wake()

    async def run(self) -> None:
        while not self._stopping:
            pubsub = self._redis.pubsub()
            try:
                await self._listen(pubsub)
            except (RedisError, OSError):
                await asyncio.sleep(AGAIN_SECONDS)
            finally:
                with suppress(RedisError, OSError):
                    await pubsub.aclose()

    async def _wake(self) -> None:
        with suppress(RedisError, OSError):
            await self._redis.publish(self._own_channel, b"")

    async def _listen(self, pubsub: Client) -> None:
        """Takes messages until it is stopped. Raises RedisError or OSError when the connection breaks."""
        self._subscribed = set()
        await pubsub.subscribe(self._own_channel)
        while not self._stopping:
            await self._subscribe(pubsub)
            await self._take_next(pubsub)
            await self._catch_up()

    async def _subscribe(self, pubsub: Client) -> None:
        wanted = set(self._logs)
        if more := wanted - self._subscribed:
            await pubsub.subscribe(*map(self._channel, more))
        if fewer := self._subscribed - wanted:
            await pubsub.unsubscribe(*map(self._channel, fewer))
        self._subscribed = wanted

    async def _take_next(self, pubsub: Client) -> None:
        """Takes a message and, if it is a confirmation, those that come with it, to read their texts together."""
        message = await pubsub.get_message(timeout=IDLE_SECONDS)
        for _ in range(BURST):
            if message is not None:
                self._take(message)
            if message is None or not self._outdated:
                return
            message = await pubsub.get_message(timeout=BURST_SECONDS)

    def _take(self, message: Mapping[str, Any]) -> None:
        """Applies a message. A confirmed subscription has the whole text read, since earlier news may be missing."""
        key = UUID(message["channel"].decode()[-36:])
        mirror = self._logs.get(key)
        if mirror is None:
            return
        if message["type"] == "subscribe" or message["data"] == ANEW:
            self._outdated.add(key)
        elif message["type"] == "message":
            offset, _, data = message["data"].partition(b" ")
            text, end = decode(data)
            known = len(mirror.text) - int(offset)
            if known < 0:
                self._outdated.add(key)
            elif text[known:] or end is not None:
                mirror.add(text[known:], end)

    async def _catch_up(self) -> None:
        keys, self._outdated = self._outdated & self._logs.keys(), set()
        for key, (text, end) in (await self._read(keys)).items():
            mirror = self._logs.get(key)
            if mirror and (len(text) > len(mirror.text) or end is not None):
                mirror.add(text[len(mirror.text) :], end)

    async def _read(self, keys: Collection[UUID]) -> dict[UUID, tuple[str, str | None]]:
        if not keys:
            return {}
        values = await self._redis.mget([self._channel(key) for key in keys])
        return {key: decode(value) for key, value in zip(keys, values, strict=True) if value is not None}

    def _channel(self, key: UUID) -> str:
        return f"{self._prefix}:{key}"
