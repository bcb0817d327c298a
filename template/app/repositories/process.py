from uuid import UUID

from sqlalchemy import Select, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.clock import seconds_ago
from app.models.process import Process

DEAD_SECONDS = 5.0
"""A process whose last beat is older is dead."""
FORGET_SECONDS = 600.0


class ProcessRepository:
    """Times are the database's: the processes may be on machines whose clocks differ."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def beat(self, id: UUID, *, is_server: bool, is_worker: bool = False) -> None:
        """Also begins anew when others have forgotten this process."""
        beat = (
            update(Process)
            .where(Process.id == id)
            .values(last_heartbeat_at=seconds_ago(0), is_worker=is_worker)
            .returning(Process.id)
        )
        if await self._session.scalar(beat) is None:
            now = seconds_ago(0)
            self._session.add(
                Process(id=id, created_at=now, last_heartbeat_at=now, is_server=is_server, is_worker=is_worker)
            )

    async def end(self, id: UUID) -> None:
        await self._session.execute(delete(Process).where(Process.id == id))

    async def has_older_server(self, id: UUID) -> bool:
        """Whether a server lives that began before this process."""
        began = select(Process.created_at).where(Process.id == id).scalar_subquery()
        older = alive().where(Process.is_server, Process.id != id, Process.created_at <= began)
        return await self._session.scalar(older.limit(1)) is not None

    async def has_worker(self) -> bool:
        return await self._session.scalar(alive().where(Process.is_worker).limit(1)) is not None

    async def forget_dead(self) -> None:
        await self._session.execute(delete(Process).where(Process.last_heartbeat_at < seconds_ago(FORGET_SECONDS)))


def alive() -> Select[UUID]:
    """The ids of the processes that live."""
    return select(Process.id).where(Process.last_heartbeat_at >= seconds_ago(DEAD_SECONDS))
