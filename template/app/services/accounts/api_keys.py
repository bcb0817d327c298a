from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

import structlog

from app.core.database import Database
from app.core.errors import Invalid
from app.core.security import API_KEY_START, fingerprint, new_secret
from app.models.base import now
from app.models.user import ApiKey
from app.repositories.base import Page
from app.repositories.credential import ApiKeyRepository
from app.repositories.principal import Principal
from app.schemas.api_key import ApiKeyCreate, ApiKeyCreated, ApiKeyRead

SHOWN_CHARACTERS = 10

log = structlog.stdlib.get_logger("app.security")


class ApiKeyService:
    """Manages one person's API keys. A key may do what its scopes allow, of what its user may."""

    def __init__(self, database: Database, scopes: Collection[str], user: Principal) -> None:
        self._database = database
        self._scopes = scopes
        self._user = user

    async def create(self, data: ApiKeyCreate) -> ApiKeyCreated:
        """Creates a key; only this result has the key itself. Raises Invalid."""
        if unknown := set(data.scopes) - set(self._scopes):
            raise Invalid(f"There is no scope {', '.join(sorted(unknown))}, only {', '.join(sorted(self._scopes))}.")
        key = API_KEY_START + new_secret()
        async with self._database.write(self._user.id) as session:
            row = await ApiKeyRepository(session, self._user.id).create(
                name=data.name,
                scopes=sorted(set(data.scopes)),
                prefix=key[:SHOWN_CHARACTERS],
                hashed_key=fingerprint(key),
                expires_at=now() + timedelta(days=data.expires_in_days),
            )
        log.info("API key created", user_id=str(self._user.id), api_key_id=str(row.id), scopes=row.scopes)
        return ApiKeyCreated(**ApiKeyRead.model_validate(row).model_dump(), key=key)

    async def list(self, limit: int, cursor: UUID | None) -> Page[ApiKey]:
        async with self._database.read() as session:
            return await ApiKeyRepository(session, self._user.id).list(limit, cursor)

    async def delete(self, id: UUID) -> None:
        """Deletes a key. Raises NotFound."""
        async with self._database.write(self._user.id) as session:
            keys = ApiKeyRepository(session, self._user.id)
            await keys.delete(await keys.get(id, lock=True))
        log.info("API key deleted", user_id=str(self._user.id), api_key_id=str(id))
