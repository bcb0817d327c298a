"""Tests text streams, in memory and through Redis, where two connections stand for two processes."""

import asyncio
import random
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from app.core.streams import base as events_module
from app.core.streams import memory, redis_reader, redis_writer
from app.core.streams.base import Chunk, TextStreams
from app.core.streams.memory import MemoryTextStreams
from app.core.streams.redis import open_redis_streams
from tests.redis_server import URL, Line, OwnServer, own_prefix, reachable

KINDS = ["memory", "redis"] if reachable() else ["memory"]
needs_redis = pytest.mark.skipif(
    "redis" not in KINDS, reason="needs Redis, and REQUIRE_SERVICES=1 makes its absence an error"
)
needs_own_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs the program redis-server")
WORDS = ["one ", "zwölf ", "🦜", "日本語", "e\u0301 "]


@dataclass(frozen=True)
class Processes:
    writer: TextStreams
    reader: TextStreams


@asynccontextmanager
async def two_processes(url: str, prefix: str) -> AsyncGenerator[Processes]:
    async with open_redis_streams(url, prefix) as writer, open_redis_streams(url, prefix) as reader:
        yield Processes(writer, reader)


@pytest.fixture(params=KINDS)
async def processes(request: pytest.FixtureRequest) -> AsyncGenerator[Processes]:
    if request.param == "memory":
        events = MemoryTextStreams()
        yield Processes(events, events)
        return
    async with own_prefix() as prefix, two_processes(URL, prefix) as processes:
        yield processes


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[OwnServer]:
    """Starts a Redis server that the test may kill."""
    for module in (redis_reader, redis_writer):
        monkeypatch.setattr(module, "AGAIN_SECONDS", 0.02)
    async with OwnServer.started() as server:
        yield server


async def read(events: TextStreams, key: UUID, offset: int = 0) -> tuple[str, str]:
    """Returns the text from the offset on, and the end; fails where offsets do not fit the text."""
    text = ""
    async for chunk in events.follow(key, offset):
        text += chunk.text
        assert chunk.offset == offset + len(text)
        if chunk.end is not None:
            return text, chunk.end
    raise AssertionError("the stream ended without its end")


async def arrived(events: TextStreams, key: UUID, length: int) -> None:
    """Waits until a reader has so many characters."""
    async for chunk in events.follow(key):
        if chunk.offset >= length:
            return


async def speak(events: TextStreams, key: UUID, words: list[str]) -> str:
    """Appends the words one after another, closes the stream, and returns the whole text."""
    for word in words:
        events.append(key, word)
        await asyncio.sleep(0.001)
    events.close(key, "end")
    return "".join(words)


async def test_what_waits_comes_as_one_chunk(processes: Processes) -> None:
    key, writer = uuid4(), processes.writer
    writer.open(key)
    writer.append(key, "one ")
    writer.append(key, "two")
    writer.close(key, "end")
    assert [chunk async for chunk in writer.follow(key)] == [Chunk(7, "one two"), Chunk(7, end="end")]


async def test_a_follower_from_any_offset_gets_the_rest(processes: Processes) -> None:
    key = uuid4()
    processes.writer.open(key)
    text = await speak(processes.writer, key, WORDS)
    for offset in range(len(text) + 1):
        assert await read(processes.reader, key, offset) == (text[offset:], "end")
    assert await read(processes.reader, key, len(text) + 5) == ("", "end")


async def test_each_of_many_followers_gets_all_of_it_as_it_arrives(processes: Processes) -> None:
    keys = [uuid4() for _ in range(5)]
    for key in keys:
        processes.writer.open(key)
    readers = [asyncio.create_task(read(processes.reader, key)) for key in keys * 4]
    texts = await asyncio.gather(*(speak(processes.writer, key, WORDS * 4) for key in keys))
    assert await asyncio.gather(*readers) == [(text, "end") for text in texts * 4]


async def test_a_follower_may_come_before_there_is_a_log(processes: Processes) -> None:
    key = uuid4()
    reader = asyncio.create_task(read(processes.writer, key)) if processes.reader is processes.writer else None
    processes.writer.open(key)
    reader = reader or asyncio.create_task(read(processes.reader, key))
    text = await speak(processes.writer, key, WORDS)
    if processes.reader is not processes.writer:
        assert await reader == (text, "end")
    reader.cancel()


async def test_a_silent_log_says_that_there_is_no_news(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "KEEP_ALIVE_SECONDS", 0.01)
    key = uuid4()
    processes.writer.open(key)
    assert await anext(processes.reader.follow(key)) == Chunk(0)
    assert await anext(processes.reader.follow(uuid4())) == Chunk(0)


async def test_a_log_is_taken_over(processes: Processes) -> None:
    """Ends in one process what another had begun."""
    key = uuid4()
    processes.writer.open(key)
    processes.writer.append(key, "so far")
    reader = asyncio.create_task(read(processes.writer, key))
    if processes.reader is not processes.writer:
        await arrived(processes.reader, key, 6)
        assert await processes.reader.texts([key, uuid4()]) == {key: "so far"}
    reader.cancel()
    processes.reader.open(key, "so far and")
    processes.reader.close(key, "interrupted")
    assert await read(processes.reader, key, 6) == (" and", "interrupted")


async def test_a_closed_log_is_dropped_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "KEEP_SECONDS", 0)
    events, key = MemoryTextStreams(), uuid4()
    events.open(key)
    events.close(key, "end")
    for _ in range(3):  # turns of the event loop, in which the timer is due
        await asyncio.sleep(0)
    assert key not in events


@needs_redis
async def test_keys_of_redis_expire() -> None:
    async with own_prefix() as prefix, Redis.from_url(URL) as redis, two_processes(URL, prefix) as processes:
        key = uuid4()
        processes.writer.open(key)
        processes.writer.append(key, "word")
        await arrived(processes.reader, key, 4)
        assert 0 < await redis.ttl(f"{prefix}:log:{key}") <= redis_writer.EXPIRE_SECONDS
        processes.writer.append(key, "word")
        await arrived(processes.reader, key, 8)
        assert await redis.ttl(f"{prefix}:log:{key}") > 0
        processes.writer.close(key, "end")
        assert await read(processes.reader, key) == ("wordword", "end")
        assert 0 < await redis.ttl(f"{prefix}:log:{key}") <= redis_writer.KEEP_SECONDS


@needs_redis
async def test_what_waits_is_sent_in_one_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    execute = Pipeline.execute

    async def counted(self: Pipeline, *arguments: Any) -> Any:
        sent.append(len(self))
        return await execute(self, *arguments)

    monkeypatch.setattr(Pipeline, "execute", counted)
    async with own_prefix() as prefix, two_processes(URL, prefix) as processes:
        keys = [uuid4() for _ in range(50)]
        for key in keys:
            processes.writer.open(key)
            processes.writer.append(key, "one ")
            processes.writer.append(key, "two ")
        await arrived(processes.reader, keys[-1], 8)
        assert sent == [2 * len(keys)]
        for key in keys:
            processes.writer.append(key, "three")
        await arrived(processes.reader, keys[-1], 13)
        assert sent == [2 * len(keys)] * 2


@needs_redis
@needs_own_redis
async def test_connections_that_are_killed_at_random_cost_nothing(server: OwnServer) -> None:
    async with two_processes(server.url, "test") as processes, Redis.from_url(server.url) as redis:
        keys = [uuid4() for _ in range(10)]
        for key in keys:
            processes.writer.open(key)
        readers = [asyncio.create_task(read(processes.reader, key)) for key in keys]
        writers = [asyncio.create_task(speak(processes.writer, key, WORDS * 40)) for key in keys]
        own, chance = await redis.client_id(), random.Random(7)  # noqa: S311 - which is why it can be repeated
        for _ in range(20):
            others = [client for client in await redis.client_list() if int(client["id"]) != own]
            if others:
                await redis.client_kill_filter(_id=chance.choice(others)["id"])
            await asyncio.sleep(0.01)
        texts = await asyncio.gather(*writers)
        assert await asyncio.wait_for(asyncio.gather(*readers), 10) == [(text, "end") for text in texts]


@needs_redis
async def test_what_redis_took_before_a_connection_broke_is_not_added_again() -> None:
    """Retries without a duplicate: a reader at that moment would get some text twice, and miss other text."""
    key, line = uuid4(), Line()
    await line.mend()
    async with (
        own_prefix() as prefix,
        open_redis_streams(line.url, prefix) as writer,
        open_redis_streams(URL, prefix) as reader,
        Redis.from_url(URL) as redis,
        redis.monitor() as monitor,
    ):
        writer.open(key)
        writer.append(key, "one ")
        await arrived(reader, key, 4)
        line.loses_one = True
        writer.append(key, "two ")
        await arrived(reader, key, 8)
        writer.close(key, "end")
        assert await read(reader, key) == ("one two ", "end")
        done: list[str] = []
        while not done or "end" not in done[-1]:
            command = (await monitor.next_command())["command"]
            done += [command] if prefix in command else []  # or it is one of another program
        assert not line.loses_one
        assert [command.split()[0] for command in done if "two" in command and "PUBLISH" not in command] == [
            "APPEND",
            "SET",
        ]
    await line.cut()


@needs_redis
@needs_own_redis
async def test_a_redis_that_begins_anew_gets_what_it_lacks(server: OwnServer) -> None:
    async with two_processes(server.url, "test") as processes:
        key = uuid4()
        processes.writer.open(key)
        processes.writer.append(key, "before ")
        reader = asyncio.create_task(read(processes.reader, key))
        await arrived(processes.reader, key, 7)
        await server.kill()
        processes.writer.append(key, "meanwhile ")
        await server.start()
        processes.writer.append(key, "after")
        processes.writer.close(key, "end")
        assert await asyncio.wait_for(reader, 10) == ("before meanwhile after", "end")
        assert await read(processes.reader, key, 7) == ("meanwhile after", "end")


@needs_redis
@needs_own_redis
async def test_without_redis_the_writer_goes_on_and_closes_in_time(server: OwnServer) -> None:
    key = uuid4()
    async with two_processes(server.url, "test") as processes:
        processes.writer.open(key)
        await server.kill()
        processes.writer.append(key, "to its own readers")
        processes.writer.close(key, "end")
        assert await read(processes.writer, key) == ("to its own readers", "end")
        assert await processes.reader.texts([key]) == {}
