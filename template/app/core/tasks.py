"""What a process does again and again, beside answering."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import SQLAlchemyError

log = structlog.stdlib.get_logger("app.tasks")


@asynccontextmanager
async def repeated(
    name: str, work: Callable[[], Awaitable[None]], seconds: float, *, first: float | None = None
) -> AsyncGenerator[None]:
    """Runs `work` every so many seconds, the first time after `first`. Leaving lets a run that has begun end.

    What fails because of the database is logged and tried again at the next turn.
    """
    leaving = asyncio.Event()
    task = asyncio.create_task(_repeat(name, work, seconds, seconds if first is None else first, leaving))
    try:
        yield
    finally:
        leaving.set()
        await task


async def _repeat(
    name: str, work: Callable[[], Awaitable[None]], seconds: float, pause: float, leaving: asyncio.Event
) -> None:
    while not await _set_within(leaving, pause):
        pause = seconds
        try:
            await work()
        except (SQLAlchemyError, OSError) as error:
            log.warning("not done", work=name, error=type(error).__name__, again_in=seconds)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await event.wait()
    return False
