"""Runs the loops of a process, which repeat its background work. None of them can fail unnoticed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic

import structlog
from sqlalchemy.exc import SQLAlchemyError

OVERDUE_SECONDS = 5.0
"""Marks a loop as down that has not succeeded for so long, or for three of its periods if that is longer."""
RETRY_SECONDS = 10.0
"""Limits the pause before a loop that failed runs again."""
RESTART_SECONDS = 1.0

Work = Callable[[], Awaitable[None]]

log = structlog.stdlib.get_logger("app.tasks")


@dataclass(slots=True, eq=False)
class Loop:
    """Records when the last round of a loop succeeded."""

    name: str
    period: float
    succeeded_at: float = field(default_factory=monotonic)
    failure: type[Exception] | None = None
    """Holds the type of what the last round raised."""

    @property
    def is_overdue(self) -> bool:
        return monotonic() - self.succeeded_at > max(3 * self.period, OVERDUE_SECONDS)

    @contextmanager
    def attempt(self) -> Generator[None]:
        """Catches what a round raises, so that the next can follow; logs it unless the round before raised the same."""
        try:
            yield
        except Exception as error:
            if type(error) is not self.failure:
                traceback = not isinstance(error, SQLAlchemyError)
                log.warning("loop failed", loop=self.name, error=type(error).__name__, exc_info=traceback)
            self.failure = type(error)
        else:
            if self.failure:
                log.info("loop recovered", loop=self.name)
            self.succeeded_at, self.failure = monotonic(), None


class Supervisor:
    """Keeps the loops of a process running and knows which of them fail."""

    def __init__(self) -> None:
        self._loops: set[Loop] = set()

    async def check(self) -> None:
        """Raises LookupError with the names of the loops that have not succeeded for too long."""
        if overdue := sorted(loop.name for loop in self._loops if loop.is_overdue):
            raise LookupError(", ".join(overdue))

    @contextmanager
    def watch(self, name: str, period: float) -> Generator[Loop]:
        """Lets `check` know about a loop until the block ends. The caller runs each round of it in an `attempt`."""
        loop = Loop(name, period)
        self._loops.add(loop)
        try:
            yield loop
        finally:
            self._loops.discard(loop)

    @asynccontextmanager
    async def repeat(self, name: str, work: Work, seconds: float) -> AsyncGenerator[None]:
        """Runs `work` as the function `repeat` does, and lets `check` know when it fails for too long."""
        with self.watch(name, seconds) as loop:
            async with _running(loop, work, seconds):
                yield


@asynccontextmanager
async def repeat(name: str, work: Work, seconds: float, *, first: float | None = None) -> AsyncGenerator[None]:
    """Runs `work` every `seconds`, the first time after `first`. Leaving the block lets a round that has begun end.

    A round that fails is logged, and the next one follows within RETRY_SECONDS.
    """
    async with _running(Loop(name, seconds), work, seconds if first is None else first):
        yield


repeated = repeat
"""Keeps the name that `repeat` had before 0.1.2, until 0.3."""


async def keep_running(name: str, work: Work) -> None:
    """Runs `work`, which lasts as long as the process, and starts it again whenever it fails."""
    loop = Loop(name, RETRY_SECONDS)
    while True:
        with loop.attempt():
            await work()
            return
        await asyncio.sleep(RESTART_SECONDS)


@asynccontextmanager
async def _running(loop: Loop, work: Work, first: float) -> AsyncGenerator[None]:
    leaving = asyncio.Event()
    task = asyncio.create_task(_run(loop, work, first, leaving))
    try:
        yield
    finally:
        leaving.set()
        await task


async def _run(loop: Loop, work: Work, pause: float, leaving: asyncio.Event) -> None:
    while not await _set_within(leaving, pause):
        with loop.attempt():
            await work()
        pause = min(loop.period, RETRY_SECONDS) if loop.failure else loop.period


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await event.wait()
    return False
