"""Deletes expired rows, in every process: each run is short and may be repeated."""

from contextlib import AbstractAsyncContextManager
from functools import partial

from app.core.database import Database
from app.core.periodic import repeat
from app.repositories.credential import CredentialRepository
from app.repositories.idempotency_key import forget_old_keys
from app.repositories.process import ProcessRepository
from app.repositories.usage import ReservationRepository

FIRST_SECONDS = 60.0
EVERY_SECONDS = 3600.0


def open_cleanup(database: Database) -> AbstractAsyncContextManager[None]:
    """Runs `delete_expired` every hour; the first run comes late, so as not to slow the start."""
    return repeat("housekeeping", partial(delete_expired, database), EVERY_SECONDS, first=FIRST_SECONDS)


async def delete_expired(database: Database) -> None:
    """Deletes the rows of what has expired, which is void already."""
    async with database.write() as session:
        await CredentialRepository(session).delete_expired()
        await forget_old_keys(session)
        await ProcessRepository(session).forget_dead()
        await ReservationRepository(session).delete_stale()
