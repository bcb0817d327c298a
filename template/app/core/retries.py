"""Retries database work that failed for a moment."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

PAUSES = (0.1, 1.0, 3.0)
"""Lists the seconds before each retry; the last one repeats."""

T = TypeVar("T")

log = structlog.stdlib.get_logger("app.database")


async def retry(
    work: Callable[[], Awaitable[T]], name: str, *, is_patient: Callable[[], bool] = lambda: True, **subject: str
) -> T:
    """Runs `work` until it succeeds, and returns its result. Logs each failure with `name` and `subject`.

    Raises SQLAlchemyError when all pauses were made once and `is_patient` returns False.
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
