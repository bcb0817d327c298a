"""Logs that any process can follow. A log is one string in Redis; what is added to it is published, too.

The text that a process speaks stays in its own memory: a Redis that fails delays those who follow elsewhere, and
when it is back it gets whatever it lacks.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import structlog
from redis.exceptions import RedisError

from app.core.events import ELSEWHERE_SECONDS, KEEP_SECONDS, Chunk, Log, MemoryEvents
from app.core.redis import connected

CONNECTIONS = 4
"""To read; one more writes."""
SECONDS = 5.0
"""More than others wait for Redis: a busy process must not take its own delay for a failure."""
AGAIN_SECONDS = 1.0
IDLE_SECONDS = 1.0
BURST, BURST_SECONDS = 500, 0.001
EXPIRE_SECONDS = 3600
"""After so long in one string, which is more than a reply takes; what lacks is written anew."""

BREAK = b"\xff"
"""Stands before and after what a log ended with; it occurs in no UTF-8."""
ANEW = b""
"""Published in place of a piece: read all of it."""

Client = Any
"""Of redis-py, whose own types are incomplete."""

log = structlog.stdlib.get_logger("app.events")


@asynccontextmanager
async def open_redis_events(url: str, prefix: str) -> AsyncGenerator["RedisEvents"]:
    """With connections of its own, so that nobody else can use them up."""
    async with (
        connected(url, 1, SECONDS, retries=0) as writing,  # what is added twice would be read twice
        connected(url, CONNECTIONS, SECONDS) as reading,
    ):
        events = RedisEvents(Sender(writing, f"{prefix}:log"), Mirrors(reading, f"{prefix}:log"))
        tasks = [asyncio.create_task(part.run()) for part in (events.sender, events.mirrors)]
        try:
            yield events
        finally:
            events.sender.stop()
            await events.mirrors.stop()
            await asyncio.gather(*tasks)


class RedisEvents:
    def __init__(self, sender: "Sender", mirrors: "Mirrors") -> None:
        self._own = MemoryEvents()
        self.sender = sender
        self.mirrors = mirrors

    def open(self, key: UUID, text: str = "") -> Log:
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

    async def texts(self, keys: Collection[UUID]) -> Mapping[UUID, str]:
        try:
            return await self.mirrors.texts(keys)
        except (RedisError, OSError):
            return {}


@dataclass(slots=True)
class _Sent:
    """How much of a log Redis has."""

    log: Log
    characters: int = 0
    size: int = 0
    """In bytes, which is how Redis counts."""
    unsure: bool = True
    """Write all of it: nothing is there yet, or nobody knows what."""


class Sender:
    """One task a process, so that what waits while it sends goes out together, in one round trip."""

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
        """Not at the first failure: the connection may have died since it was used last."""
        return self._failures > 1

    def add(self, key: UUID, log: Log) -> None:
        self._logs[key] = _Sent(log)

    def send(self, key: UUID) -> None:
        if key in self._logs:
            self._waiting.add(key)
            self._wake.set()

    def end(self, key: UUID) -> None:
        """Like `send`, for the last time: tried for as long as the log is kept."""
        self.send(key)
        asyncio.get_running_loop().call_later(KEEP_SECONDS, self._forget, key)

    def stop(self) -> None:
        """Once what waits has been sent, unless Redis is down."""
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
            log.warning("redis is down, readers elsewhere look at what is stored", error=type(error).__name__)
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
            size = len(data := _encoded(text, end))
            pipeline.set(name, data, ex=EXPIRE_SECONDS)
            pipeline.publish(name, ANEW)
        else:
            data = _encoded(text[sent.characters :], end)
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
    """What was sent of a log, and which of the answers says whether Redis now has as much."""

    place: int
    characters: int
    size: int
    ended: bool


class Mirrors:
    """Copies of logs that are written elsewhere, for as long as somebody follows them.

    One connection a process, which belongs to one task: two that use it at once get in each other's way when it breaks.
    """

    def __init__(self, redis: Client, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._own_channel = f"{prefix}:{uuid4()}"
        """Where this process publishes to wake its own task."""
        self._logs: dict[UUID, Log] = {}
        self._readers = Counter[UUID]()
        self._subscribed: set[UUID] = set()
        self._outdated: set[UUID] = set()
        self._stopping = False

    async def follow(self, key: UUID, offset: int = 0) -> AsyncGenerator[Chunk]:
        log = self._logs.setdefault(key, Log(ELSEWHERE_SECONDS))
        self._readers[key] += 1
        try:
            if self._readers[key] == 1:
                self._outdated.add(key)  # it may be subscribed to still, which nothing would confirm again
                await self._wake()
            async with aclosing(log.follow(offset)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:  # without waiting for anything: this may be a cancellation
            self._readers[key] -= 1
            if not self._readers[key]:
                del self._readers[key], self._logs[key]

    async def texts(self, keys: Collection[UUID]) -> Mapping[UUID, str]:
        return {key: text for key, (text, _end) in (await self._read(keys)).items()}

    async def stop(self) -> None:
        """A flag and no cancellation, which redis-py can lose while it connects."""
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
        """Raises when the connection breaks."""
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
        """And, where it is a confirmation, those that come with it: what they are about is then read together."""
        message = await pubsub.get_message(timeout=IDLE_SECONDS)
        for _ in range(BURST):
            if message is not None:
                self._take(message)
            if message is None or not self._outdated:
                return
            message = await pubsub.get_message(timeout=BURST_SECONDS)

    def _take(self, message: Mapping[str, Any]) -> None:
        """Only once a subscription is confirmed, or made again, is what is read from then on without a gap."""
        key = UUID(message["channel"].decode()[-36:])
        mirror = self._logs.get(key)
        if mirror is None:
            return
        if message["type"] == "subscribe" or message["data"] == ANEW:
            self._outdated.add(key)
        elif message["type"] == "message":
            offset, _, data = message["data"].partition(b" ")
            text, end = _decoded(data)
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
        return {key: _decoded(value) for key, value in zip(keys, values, strict=True) if value is not None}

    def _channel(self, key: UUID) -> str:
        return f"{self._prefix}:{key}"


def _encoded(text: str, end: str | None) -> bytes:
    return text.encode() if end is None else text.encode() + BREAK + end.encode() + BREAK


def _decoded(data: bytes) -> tuple[str, str | None]:
    """What stands behind an end is of no account: a process wrote it that was taken for dead."""
    text, *rest = data.split(BREAK)
    return text.decode(), rest[0].decode() if len(rest) > 1 else None
