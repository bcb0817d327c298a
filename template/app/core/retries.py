"""One way to try again what the database refused for a moment."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

PAUSES = (0.1, 1.0, 3.0)
"""Seconds before each new try; the last one again and again."""

T = TypeVar("T")

log = structlog.stdlib.get_logger("app.database")


async def retry(
    work: Callable[[], Awaitable[T]], name: str, *, is_patient: Callable[[], bool] = lambda: True, **subject: str
) -> T:
    """Returns what `work` returns once it succeeds. Each failure is logged with the name and the subject.

    Raises SQLAlchemyError when nobody is patient any more, after each of the pauses was made once.
    """
    tries = 0
    while True:
        try:
            return await work()
        except SQLAlchemyError as error:
            if tries >= len(PAUSES) and not is_patient():
                raise
            log.warning("database work failed", work=name, error=type(error).__name__, **subject)
        await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
        tries += 1
