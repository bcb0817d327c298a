"""What the application tidies by itself, in every process: each run is short and may be repeated."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core.database import Database
from app.repositories.credential import CredentialRepository

FIRST_SECONDS = 60.0
EVERY_SECONDS = 3600.0

log = structlog.stdlib.get_logger("app.housekeeping")


@asynccontextmanager
async def housekeeping(database: Database) -> AsyncGenerator[None]:
    """Begins after a while, so that starting is not held up, and ends with the application."""
    task = asyncio.create_task(_now_and_then(database))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def tidy(database: Database) -> None:
    """Sessions, API keys and mailed tokens that have expired are worth nothing already; here they go."""
    async with database.write() as session:
        await CredentialRepository(session).delete_expired()


async def _now_and_then(database: Database) -> None:
    await asyncio.sleep(FIRST_SECONDS)
    while True:
        try:
            await tidy(database)
        except (SQLAlchemyError, OSError) as error:
            log.warning("not tidied", error=type(error).__name__, again_in=EVERY_SECONDS)
        await asyncio.sleep(EVERY_SECONDS)
