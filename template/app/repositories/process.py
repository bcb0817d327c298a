from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.core.clock import seconds_ago
from app.models.process import Process

DEAD_SECONDS = 5.0
"""Limits the age of the last heartbeat; a process whose last one is older is dead."""
FORGET_SECONDS = 600.0


class ProcessRepository:
    """Stores heartbeats by the database's clock, since processes may run on machines whose clocks differ."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def beat(self, id: UUID, *, is_server: bool, is_worker: bool = False) -> None:
        """Stores a heartbeat, with a new row if this process has none, be it new or forgotten by others."""
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
        """Tells whether a server is alive that started before this process."""
        began = select(Process.created_at).where(Process.id == id).scalar_subquery()
        older = alive().where(Process.is_server, Process.id != id, Process.created_at <= began)
        return await self._session.scalar(older.limit(1)) is not None

    async def has_worker(self) -> bool:
        return await self._session.scalar(alive().where(Process.is_worker).limit(1)) is not None

    async def list(self) -> Sequence[Row[*tuple[Any, ...]]]:
        """Lists the processes that are alive, and those that died lately, from the oldest on."""
        columns = (Process.id, Process.created_at, Process.is_server, Process.is_worker, Process.last_heartbeat_at)
        is_alive = (Process.last_heartbeat_at >= seconds_ago(DEAD_SECONDS)).label("is_alive")
        return (await self._session.execute(select(*columns, is_alive).order_by(Process.id))).all()

    async def forget_dead(self) -> None:
        await self._session.execute(delete(Process).where(Process.last_heartbeat_at < seconds_ago(FORGET_SECONDS)))


def of_dead_process(process_id: InstrumentedAttribute[UUID | None], own_id: UUID) -> ColumnElement[bool]:
    """Selects rows of processes that are dead; the process that asks, `own_id`, is alive whatever its heartbeat is."""
    return process_id.is_distinct_from(own_id) & process_id.not_in(alive())


def alive() -> Select[UUID]:
    """Selects the ids of the processes that are alive."""
    return select(Process.id).where(Process.last_heartbeat_at >= seconds_ago(DEAD_SECONDS))
