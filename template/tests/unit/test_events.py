import asyncio
from uuid import UUID, uuid4

import pytest

from app.core import events as events_module
from app.core.events import Chunk, MemoryEvents


@pytest.fixture
def events() -> MemoryEvents:
    return MemoryEvents()


@pytest.fixture
def key(events: MemoryEvents) -> UUID:
    key = uuid4()
    events.open(key)
    return key


async def read(events: MemoryEvents, key: UUID, offset: int = 0) -> list[Chunk]:
    return [chunk async for chunk in events.follow(key, offset)]


async def test_what_waits_comes_as_one_chunk(events: MemoryEvents, key: UUID) -> None:
    await events.append(key, "one ")
    await events.append(key, "two")
    await events.close(key, "end")
    assert await read(events, key) == [Chunk(7, "one two"), Chunk(7, end="end")]


async def test_a_follower_from_an_offset_gets_the_rest(events: MemoryEvents, key: UUID) -> None:
    await events.append(key, "one two")
    await events.close(key, "end")
    assert await read(events, key, 4) == [Chunk(7, "two"), Chunk(7, end="end")]
    assert await read(events, key, 7) == [Chunk(7, end="end")]


async def test_each_of_many_followers_gets_all_of_it_as_it_arrives(events: MemoryEvents, key: UUID) -> None:
    followers = [asyncio.create_task(read(events, key)) for _ in range(20)]
    for word in ["a", "b", "c", "d"]:
        await events.append(key, word)
        await asyncio.sleep(0)
    await events.close(key, "end")
    for chunks in await asyncio.gather(*followers):
        assert "".join(chunk.text for chunk in chunks) == "abcd"
        assert chunks[-1].end == "end"


async def test_a_silent_log_says_that_it_is_alive(
    events: MemoryEvents, key: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "IDLE_SECONDS", 0.01)
    assert await anext(events.follow(key)) == Chunk(0)


async def test_a_closed_log_is_dropped_after_a_while(
    events: MemoryEvents, key: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "KEEP_SECONDS", 0)
    await events.close(key, "end")
    for _ in range(3):  # turns of the loop, in which the timer is due
        await asyncio.sleep(0)
    with pytest.raises(KeyError):
        await read(events, key)
