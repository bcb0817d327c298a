"""Deletes rows that have expired and are void already."""

from app.core.database import Database
from app.repositories.credential import CredentialRepository
from app.repositories.idempotency_key import forget_old_keys
from app.repositories.job import JobRepository
from app.repositories.process import ProcessRepository
from app.repositories.usage import ReservationRepository

FAILED_JOB_SECONDS = 7 * 24 * 3_600.0
"""Sets how long failed jobs are kept."""


async def delete_expired(database: Database) -> None:
    async with database.write() as session:
        await CredentialRepository(session).delete_expired()
        await forget_old_keys(session)
        await JobRepository(session).delete_failed(FAILED_JOB_SECONDS)
        await ProcessRepository(session).forget_dead()
        await ReservationRepository(session).delete_stale()
