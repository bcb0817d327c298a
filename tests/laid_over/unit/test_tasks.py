import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from app.core import periodic
from app.core.periodic import Supervisor, keep_running, repeat

FAILURES = (RuntimeError("a bug"), OSError("a network"), LookupError("a row"))


class Work:
    """Fails as often as there are failures, and then succeeds, unless it `is_broken`."""

    def __init__(self, *failures: Exception, is_broken: bool = False) -> None:
        self._failures = list(failures)
        self.is_broken = is_broken
        self.rounds = 0
        self.succeeded = asyncio.Event()

    async def __call__(self) -> None:
        self.rounds += 1
        if self._failures:
            raise self._failures.pop(0)
        if self.is_broken:
            raise LookupError
        self.succeeded.set()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "RESTART_SECONDS", 0)
    monkeypatch.setattr(periodic, "OVERDUE_SECONDS", 0.05)


@pytest.mark.parametrize("run", [repeat, Supervisor().repeat])
async def test_a_loop_goes_on_whatever_its_work_raises(run: Callable[..., AbstractAsyncContextManager[None]]) -> None:
    work = Work(*FAILURES)
    async with run("flush", work, 0.001), asyncio.timeout(20):
        await work.succeeded.wait()
    assert work.rounds > len(FAILURES)


async def test_what_lasts_is_begun_again_when_it_fails() -> None:
    work = Work(*FAILURES)
    await asyncio.wait_for(keep_running("reader", work), 20)
    assert work.rounds == len(FAILURES) + 1


async def test_a_loop_that_does_not_succeed_for_long_is_named_until_it_does() -> None:
    supervisor, work = Supervisor(), Work(is_broken=True)
    async with supervisor.repeat("flush", work, 0.001), asyncio.timeout(20):
        await named(supervisor, "flush")
        work.is_broken = False
        await named(supervisor, "")


async def test_a_round_that_hangs_is_named_too() -> None:
    supervisor, hang = Supervisor(), asyncio.Event()

    async def work() -> None:
        await hang.wait()

    async with supervisor.repeat("heartbeat", work, 0.001), asyncio.timeout(20):
        await named(supervisor, "heartbeat")
        hang.set()


async def named(supervisor: Supervisor, loops: str) -> None:
    """Waits until these loops are overdue."""
    found = None
    while found != loops:
        await asyncio.sleep(0.001)
        try:
            await supervisor.check()
            found = ""
        except LookupError as error:
            found = str(error)
