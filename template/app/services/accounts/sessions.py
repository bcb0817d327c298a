from uuid import UUID

import structlog

from app.core.database import Database
from app.models.base import now
from app.models.user import UserSession
from app.repositories.credential import SessionRepository
from app.repositories.principal import Principal
from app.schemas.base import PageRead
from app.schemas.user import SessionRead

log = structlog.stdlib.get_logger("app.security")


class SessionService:
    """Lists and ends one person's sessions. Ending one makes its access and refresh tokens invalid at once."""

    def __init__(self, database: Database, user: Principal) -> None:
        self._database = database
        self._user = user

    async def list(self, limit: int, cursor: UUID | None) -> PageRead[SessionRead]:
        async with self._database.read() as session:
            page = await SessionRepository(session, self._user.id).list(limit, cursor, UserSession.expires_at > now())
        return PageRead(items=[self._read(row) for row in page.items], next_cursor=page.next_cursor)

    async def end(self, id: UUID) -> None:
        """Ends a session. Raises NotFound."""
        async with self._database.write(self._user.id) as session:
            sessions = SessionRepository(session, self._user.id)
            await sessions.delete(await sessions.get(id, lock=True))
        log.info("session ended", user_id=str(self._user.id), session_id=str(id))

    def _read(self, row: UserSession) -> SessionRead:
        return SessionRead.model_validate({**vars(row), "current": row.id == self._user.credential_id})
