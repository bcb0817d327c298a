from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import Conflict
from app.models.base import now
from app.models.idempotency_key import IdempotencyKey
from app.repositories.base import OwnedRepository, delete_of_users, insert

KEEP = timedelta(hours=24)


class IdempotencyKeyReused(Conflict):
    code = "idempotency_key_reused"


class IdempotencyRepository(OwnedRepository[IdempotencyKey]):
    model = IdempotencyKey

    async def claim(self, key: str, fingerprint: str, subject_id: UUID) -> UUID:
        """Returns the subject of the first request that claimed the key: `subject_id` if that is this request.

        It waits while another transaction claims the same key. Raises AccountGone, and IdempotencyKeyReused when the
        first request asked for something else.
        """
        await self.lock_owner()
        claimed = insert(self._session, IdempotencyKey).values(
            user_id=self._user_id, key=key, fingerprint=fingerprint, subject_id=subject_id
        )
        if await self._session.scalar(claimed.on_conflict_do_nothing().returning(IdempotencyKey.id)):
            return subject_id
        first = await self._session.scalars(self._rows().where(IdempotencyKey.key == key))
        found = first.one()
        if found.fingerprint != fingerprint:
            raise IdempotencyKeyReused("This Idempotency-Key was used for another request; send a new one.")
        return found.subject_id


async def forget_old_keys(session: AsyncSession) -> None:
    await delete_of_users(session, IdempotencyKey, IdempotencyKey.created_at < now() - KEEP)
