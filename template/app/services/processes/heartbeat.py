"""Lets processes know which others are alive, by a row that each of them renews every second, its heartbeat."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import monotonic
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.core.errors import SetupError
from app.core.periodic import Supervisor
from app.repositories import process
from app.repositories.process import ProcessRepository

BEAT_SECONDS = 1.0
BEAT_TIMEOUT = 3.0
"""Limits the seconds of a heartbeat; one that hangs is given up, so that the next one comes in time."""
SINGLE_SERVER_ADVICE = "cannot share replies: set REDIS_URL for both, or stop that one"

log = structlog.stdlib.get_logger("app.heartbeat")


class Heartbeat:
    """Sends the heartbeat of this process, and looks for those of others."""

    def __init__(self, database: Database, is_server: bool) -> None:
        self.id: UUID = uuid7()
        self.is_worker = False
        """Tells whether this process runs background jobs."""
        self._database = database
        self._is_server = is_server
        self._last = self._steady_since = monotonic()

    @property
    def can_detect_dead(self) -> bool:
        """Tells whether its own heartbeats came without a gap for so long that processes without any are dead.

        After a database was down, all lack heartbeats, and a process that was paused knows nothing of the others.
        """
        now = monotonic()
        return now - self._last < process.DEAD_SECONDS <= now - self._steady_since

    async def beat(self) -> None:
        async with self._database.write() as session:
            await ProcessRepository(session).beat(self.id, is_server=self._is_server, is_worker=self.is_worker)
        now = monotonic()
        if now - self._last >= process.DEAD_SECONDS:
            self._steady_since = now
        self._last = now

    async def check_worker(self) -> None:
        """Raises LookupError when no process is alive that runs background jobs."""
        async with self._database.read() as session:
            if not await ProcessRepository(session).has_worker():
                raise LookupError("no worker is alive")

    async def ensure_single_server(self, advice: str) -> None:
        """Waits for an older server to end. Raises SetupError, with advice on what to do, if it stays alive."""
        patience = monotonic() + process.DEAD_SECONDS + BEAT_SECONDS
        while await self._has_older_server():
            if monotonic() > patience:
                raise SetupError(f"Another server process works on this database, and the two {advice}.")
            await asyncio.sleep(BEAT_SECONDS / 4)

    async def end(self) -> None:
        async with self._database.write() as session:
            await ProcessRepository(session).end(self.id)

    async def _has_older_server(self) -> bool:
        async with self._database.read() as session:
            return await ProcessRepository(session).has_older_server(self.id)


@asynccontextmanager
async def open_heartbeat(
    database: Database, supervisor: Supervisor, *, is_server: bool, alone: str = ""
) -> AsyncGenerator[Heartbeat]:
    """Sends heartbeats until the block ends. A server with the advice `alone` raises SetupError if another is alive."""
    heartbeat = Heartbeat(database, is_server)
    await heartbeat.beat()
    try:
        async with supervisor.repeat("heartbeat", heartbeat.beat, BEAT_SECONDS):
            if is_server and alone:
                await heartbeat.ensure_single_server(alone)
            yield heartbeat
    finally:
        await _end(heartbeat)


async def _end(heartbeat: Heartbeat) -> None:
    """Removes the row of this process, so that others need not wait until it counts as dead."""
    try:
        await heartbeat.end()
    except SQLAlchemyError:
        log.warning("process row not removed")  # so others wait until it counts as dead
