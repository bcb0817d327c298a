"""Tests how many slots a user may hold, counted in one process or through Redis in several."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio.client import Pipeline

from app.core import concurrency
from app.core.concurrency import ConcurrencyLimit, TooManyAtOnce
from app.core.redis import connect
from tests.redis_server import URL, Line, own_prefix, reachable

needs_redis = pytest.mark.skipif(
    not reachable(), reason="needs Redis, and REQUIRE_SERVICES=1 makes its absence an error"
)


async def is_full(of: ConcurrencyLimit, who: str = "alice") -> bool:
    try:
        async with of.acquire(who):
            return False
    except TooManyAtOnce:
        return True


@asynccontextmanager
async def two_processes() -> AsyncGenerator[tuple[ConcurrencyLimit, Line, ConcurrencyLimit]]:
    """Yields the limits of two processes, and the connection of the first, which can be cut."""
    line = Line()
    await line.mend()
    async with own_prefix() as prefix, connect(line.url, 5, 1) as cut, connect(URL, 5, 1) as whole:
        yield ConcurrencyLimit(cut, prefix, 2), line, ConcurrencyLimit(whole, prefix, 2)
    await line.cut()


async def test_without_redis_each_process_counts() -> None:
    here = ConcurrencyLimit(None, "slots", 2)
    async with here.acquire("alice"):
        assert not await is_full(here)
        async with here.acquire("alice"):
            assert await is_full(here)
            assert not await is_full(here, "bob")
        assert not await is_full(here)


async def test_zero_is_no_limit() -> None:
    here = ConcurrencyLimit(None, "slots", 0)
    async with AsyncExitStack() as stack:
        for _ in range(100):
            await stack.enter_async_context(here.acquire("alice"))


@needs_redis
async def test_processes_count_together() -> None:
    async with two_processes() as (here, _line, there), here.acquire("alice"):
        async with there.acquire("alice"):
            assert await is_full(here)
            assert await is_full(there)
            assert not await is_full(there, "bob")
        assert not await is_full(here)


@needs_redis
async def test_many_at_once_get_as_many_as_there_are() -> None:
    async with two_processes() as (here, _line, there), AsyncExitStack() as stack:
        attempts = [stack.enter_async_context(slots.acquire("alice")) for slots in (here, there) * 5]
        answers = await asyncio.gather(*attempts, return_exceptions=True)
        assert sum(isinstance(answer, TooManyAtOnce) for answer in answers) == 8


@needs_redis
async def test_what_a_dead_process_held_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "LEASE_SECONDS", 1)
    async with two_processes() as (here, line, there), there.acquire("alice") as renew:
        async with here.acquire("alice"):
            assert await is_full(there)
            await line.cut()  # so that nothing can be released, as if the process had been killed
        async with asyncio.timeout(5):
            while await is_full(there):
                await renew()
                await asyncio.sleep(0.05)


@needs_redis
async def test_what_is_renewed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "LEASE_SECONDS", 1)
    async with two_processes() as (here, _line, there), here.acquire("alice"), there.acquire("alice") as renew:
        for _ in range(6):
            await asyncio.sleep(0.25)
            await asyncio.gather(here.renew(), renew())
        assert await is_full(there)


@needs_redis
async def test_without_redis_nobody_is_locked_out_and_the_process_still_counts() -> None:
    async with two_processes() as (here, line, _there):
        await line.cut()
        async with here.acquire("alice"), here.acquire("alice"):
            assert await is_full(here)


@needs_redis
async def test_redis_learns_what_is_held_when_it_is_back() -> None:
    async with two_processes() as (here, line, there):
        await line.cut()
        async with here.acquire("alice"), there.acquire("alice"):
            assert not await is_full(there)
            await line.mend()
            await here.renew()
            assert await is_full(there)


@needs_redis
async def test_all_are_renewed_in_one_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    execute = Pipeline.execute

    async def noted(pipeline: Pipeline, raise_on_error: bool = True) -> Any:
        sent.append(len(pipeline.command_stack))
        return await execute(pipeline, raise_on_error)

    monkeypatch.setattr(Pipeline, "execute", noted)
    async with two_processes() as (here, _line, _there), AsyncExitStack() as stack:
        for number in range(100):
            await stack.enter_async_context(here.acquire(f"user {number % 50}"))
        await here.renew()
    assert sent == [50]


@needs_redis
async def test_what_is_given_back_while_it_is_renewed_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_processes() as (here, _line, there), here.acquire("alice"):
        execute, leaving = Pipeline.execute, here.acquire("alice")
        await leaving.__aenter__()

        async def late(pipeline: Pipeline, raise_on_error: bool = True) -> Any:
            await leaving.__aexit__(None, None, None)
            return await execute(pipeline, raise_on_error)

        monkeypatch.setattr(Pipeline, "execute", late)
        await here.renew()
        assert not await is_full(there)
