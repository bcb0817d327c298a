"""One engine a process. `read()` and `write()` are the only ways to a session."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.core.config import Settings
from app.core.errors import SetupError

PING_AFTER_IDLE_SECONDS = 30
_SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=5000")


class Database:
    """Sessions on the configured database, the same for PostgreSQL and SQLite."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.database_url
        self.engine = _create_engine(settings)
        autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._readers = async_sessionmaker(autocommit, expire_on_commit=False)
        self._writers = async_sessionmaker(self.engine, expire_on_commit=False)
        self._file = Path(self.url.database) if _is_sqlite(self.url) and self.url.database else None
        # One writer at a time on SQLite: waiting here is fair and cheap, waiting inside SQLite is a sleep.
        self._turn = anyio.Lock() if _is_sqlite(self.url) else nullcontext()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncSession]:
        """A session whose every query is its own transaction and costs one round trip."""
        async with self._readers() as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[AsyncSession]:
        """A session in one transaction: committed when the block ends, rolled back when it raises."""
        async with self._turn, self._writers.begin() as session:
            yield session

    async def check(self) -> None:
        """Raises SetupError when the database cannot be used."""
        if self._file and not self._file.parent.is_dir():
            raise SetupError(
                f"The folder {self._file.parent} of the database does not exist: make it or correct DATABASE_URL."
            )
        try:
            await self.ping()
        except (DBAPIError, OSError) as error:
            raise SetupError(_unreachable(self.url, error)) from None

    async def ping(self) -> None:
        async with self.read() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[Database]:
    """Raises SetupError when the database cannot be used."""
    database = Database(settings)
    try:
        await database.check()
        yield database
    finally:
        await database.close()


def _create_engine(settings: Settings) -> AsyncEngine:
    sqlite = _is_sqlite(settings.database_url)
    engine = create_async_engine(
        settings.database_url,
        echo=settings.database_echo,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        skip_autocommit_rollback=True,
        connect_args={} if sqlite else {"timeout": 10},
    )
    _ping_after_idleness(engine)
    if sqlite:
        _prepare_sqlite(engine)
    return engine


def _ping_after_idleness(engine: AsyncEngine) -> None:
    """A busy connection is known to be alive; only one that rested is tried before it is used."""
    dialect = engine.sync_engine.dialect

    @event.listens_for(engine.sync_engine, "checkin")
    def _rest(_connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info["rests_since"] = monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def _ping(connection: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        if monotonic() - entry.info.get("rests_since", monotonic()) < PING_AFTER_IDLE_SECONDS:
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error


def _prepare_sqlite(engine: AsyncEngine) -> None:
    """Write-ahead log, foreign keys, and transactions that take the write lock when they begin.

    A transaction that starts by reading and writes later fails at once when another wrote in between.
    """

    @event.listens_for(engine.sync_engine, "connect")
    def _pragmas(connection: Any, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _SQLITE_PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _unreachable(url: URL, error: Exception) -> str:
    where = url.set(query={}).render_as_string(hide_password=True)
    reason = str(error.orig if isinstance(error, DBAPIError) else error).split("\n")[0].split(": ")[-1]
    return f"The database {where} cannot be used ({reason.strip('<>')}): start it, create it or correct DATABASE_URL."
