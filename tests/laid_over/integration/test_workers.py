"""Tests the pool of processes for heavy work: who is next, and what becomes of work that takes too much."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.contextvars import bound_contextvars

from app.core import fair_slots as places_module
from app.core.errors import Busy
from app.core.fair_slots import FairSlots
from app.services.processes import process_pool as module
from app.services.processes.process_pool import ProcessPool, TookTooLong, open_process_pool


class Holder:
    """Takes a place, and keeps it until the test releases it."""

    def __init__(self, turns: FairSlots, who: str) -> None:
        self.has_it, self._go = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._hold(turns, who))

    async def _hold(self, turns: FairSlots, who: str) -> None:
        async with turns.acquire(who):
            self.has_it.set()
            await self._go.wait()

    async def go(self) -> None:
        self._go.set()
        await self._task

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


async def settled(*holders: Holder) -> list[bool]:
    """Tells which of them hold a place, once nothing is about to change any more."""
    for _ in range(10):
        await asyncio.sleep(0)
    return [holder.has_it.is_set() for holder in holders]


async def test_nobody_takes_the_last_place_who_has_another() -> None:
    turns = FairSlots(2)
    first, second, another = (Holder(turns, who) for who in ("alice", "alice", "bob"))
    assert await settled(first, second, another) == [True, False, True]
    await another.go()
    assert await settled(second) == [False]
    await first.go()
    assert await settled(second) == [True]
    await second.go()


async def test_one_place_is_for_everybody() -> None:
    turns = FairSlots(1)
    holders = [Holder(turns, who) for who in ("alice", "alice", "bob")]
    for number, holder in enumerate(holders):
        assert await settled(*holders) == [place <= number for place in range(3)]
        await holder.go()


async def test_who_has_the_fewest_is_next() -> None:
    turns = FairSlots(3)
    one, two, bobs = (Holder(turns, who) for who in ("alice", "alice", "bob"))
    waiting = [Holder(turns, who) for who in ("alice", "bob", "carol")]
    assert await settled(one, two, bobs, *waiting) == [True, True, True, False, False, False]
    await one.go()
    assert await settled(*waiting) == [False, False, True]
    for holder in (two, bobs, waiting[2], *waiting[:2]):
        await holder.go()


async def test_who_leaves_the_queue_takes_no_place_along() -> None:
    turns = FairSlots(1)
    first, second, third = (Holder(turns, who) for who in ("alice", "bob", "carol"))
    await settled()
    first._go.set()
    second._task.cancel()  # before it notices that the place is free
    await first._task
    assert await settled(second, third) == [False, True]
    await third.leave()
    last = Holder(turns, "alice")
    assert await settled(last) == [True]
    await last.go()


async def test_a_queue_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_module, "MOST_WAITING", 1)
    places = FairSlots(1)
    holders = [Holder(places, "alice") for _ in range(2)]
    await settled()
    with pytest.raises(Busy):
        async with places.acquire("bob"):
            pass
    for holder in holders:
        await holder.go()


@asynccontextmanager
async def blocked(workers: ProcessPool, fifo: Path) -> AsyncGenerator[asyncio.Task[bytes]]:
    """Starts work that waits until the end of the block."""
    os.mkfifo(fifo)
    task = asyncio.create_task(workers.do(Path.read_bytes, fifo))
    async with asyncio.timeout(60):
        writer = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)  # returns once somebody reads
    try:
        yield task
    finally:
        os.close(writer)
        await asyncio.wait({task})


async def test_one_persons_long_work_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    """Runs one piece after another, as offline recognition does."""
    async with open_process_pool(2) as workers:
        with bound_contextvars(user_id="alice"):
            async with blocked(workers, tmp_path / "fifo") as busy:
                second = asyncio.create_task(workers.do(os.getpid))
                with bound_contextvars(user_id="bob"):
                    async with asyncio.timeout(60):
                        assert await workers.do(os.getpid)
                assert not busy.done()
                assert not second.done()
        assert await second


async def test_work_that_nobody_waits_for_is_ended(tmp_path: Path) -> None:
    async with open_process_pool(1) as workers:
        pid = await workers.do(os.getpid)
        async with blocked(workers, tmp_path / "fifo") as task:
            task.cancel()
            await asyncio.wait({task})
        await assert_replaced(workers, pid)


async def test_work_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_process_pool(1) as workers:
        pid = await workers.do(os.getpid)
        monkeypatch.setattr(module, "SECONDS", 0.1)
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(TookTooLong):
            await workers.do(Path.read_bytes, tmp_path / "fifo")
        monkeypatch.undo()
        await assert_replaced(workers, pid)


async def assert_replaced(workers: ProcessPool, pid: int) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert await workers.do(os.getpid) != pid


async def test_memory_has_an_end() -> None:
    async with open_process_pool(1) as workers:
        pid = await workers.do(os.getpid)
        with pytest.raises(MemoryError):
            await workers.do(bytes, module.MEMORY_BYTES)
        assert await workers.do(os.getpid) == pid
