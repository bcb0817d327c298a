from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import Conflict
from app.models.base import now
from app.models.idempotency_key import IdempotencyKey
from app.repositories.base import OwnedRepository, delete_of_users, insert
from app.repositories.process import of_dead_process

KEEP = timedelta(hours=24)


class IdempotencyKeyReused(Conflict):
    code = "idempotency_key_reused"


class RequestInProgress(Conflict):
    code = "request_in_progress"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": "5"}


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    subject_id: UUID
    created_at: datetime
    answer: Mapping[str, Any]


class IdempotencyRepository(OwnedRepository[IdempotencyKey]):
    model = IdempotencyKey

    async def claim(self, key: str, fingerprint: str, subject_id: UUID) -> UUID:
        """Returns the subject of the first request that claimed the key: `subject_id` if that is this request.

        It waits while another transaction claims the same key. Raises AccountGone, and IdempotencyKeyReused when the
        first request asked for something else.
        """
        found = await self._claim(key, fingerprint, subject_id=subject_id)
        return subject_id if found is None else found.subject_id

    async def claim_answer(self, key: str, fingerprint: str, subject_id: UUID, process_id: UUID) -> KeptAnswer | None:
        """Returns the answer to the first request that claimed the key; None if this request is to be answered.

        That is so for the first one, and for one whose process has died. Raises AccountGone, IdempotencyKeyReused, and
        RequestInProgress while the first one is being answered.
        """
        found = await self._claim(key, fingerprint, subject_id=subject_id, process_id=process_id)
        if found is None:
            return None
        answer = await self._session.scalar(select(IdempotencyKey.answer).where(IdempotencyKey.id == found.id))
        if answer is not None:
            return KeptAnswer(found.subject_id, found.created_at, answer)
        dead = of_dead_process(IdempotencyKey.process_id, process_id)
        taken = update(IdempotencyKey).where(IdempotencyKey.id == found.id, dead)
        values = {"subject_id": subject_id, "process_id": process_id}
        if await self._session.scalar(taken.values(values).returning(IdempotencyKey.id)) is None:
            raise RequestInProgress("The first request with this Idempotency-Key is still being answered; wait.")
        return None

    async def keep_answer(self, subject_id: UUID, answer: dict[str, Any] | None) -> None:
        """Stores the answer of a request; without one, its key can be used again."""
        of_it = (IdempotencyKey.user_id == self._user_id, IdempotencyKey.subject_id == subject_id)
        if answer is None:
            await self._session.execute(delete(IdempotencyKey).where(*of_it))
        else:
            await self._session.execute(update(IdempotencyKey).where(*of_it).values(answer=answer))

    async def _claim(self, key: str, fingerprint: str, **values: UUID) -> IdempotencyKey | None:
        """Returns the row of the first request with the key, or None if this is it."""
        await self.lock_owner()
        claimed = insert(self._session, IdempotencyKey).values(
            user_id=self._user_id, key=key, fingerprint=fingerprint, **values
        )
        if await self._session.scalar(claimed.on_conflict_do_nothing().returning(IdempotencyKey.id)):
            return None
        first = await self._session.scalars(self._rows().where(IdempotencyKey.key == key))
        found = first.one()
        if found.fingerprint != fingerprint:
            raise IdempotencyKeyReused("This Idempotency-Key was used for another request; send a new one.")
        return found


async def forget_old_keys(session: AsyncSession) -> None:
    await delete_of_users(session, IdempotencyKey, IdempotencyKey.created_at < now() - KEEP)
