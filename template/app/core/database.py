"""Opens one engine per process. Only `read()` and `write()` give a session, and only `rows()` a bare connection."""

import asyncio
import math
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import anyio
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import await_only

from app.core.announcements import Listeners, notify_processes
from app.core.config import Settings
from app.core.database_connections import ConnectionOpener, ConnectionPool
from app.core.database_errors import as_database_error, describe_pooler, describe_unreachable, driver_errors
from app.core.errors import SetupError
from app.core.postgresql_url import for_driver, keep_alive
from app.core.writer_limit import WriterLimit

PING_AFTER_IDLE_SECONDS = 30
SHARE_OF_A_USER = 4
"""Divides the pool: the writes of one user may hold one of so many parts of its connections at a time."""
CANCEL_SECONDS = 2.0
"""Extends the wait for an answer beyond the statement timeout; after that the connection is given up."""

AUTOCOMMIT = "autocommit"
"""Marks the sessions of `read()` in their `info`: what one writes is not part of a transaction."""


class Database:
    """Opens sessions on the configured database, in the same way for PostgreSQL and SQLite."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.database_url
        self._opener = ConnectionOpener(_connector(self.url))
        self.engine = _create_engine(settings, self._opener)
        self.listeners = Listeners()
        self._settings = settings
        self._autocommit = self.engine.execution_options(**_autocommit(self.url))
        self._readers = async_sessionmaker(self._autocommit, expire_on_commit=False, info={AUTOCOMMIT: True})
        self._writers = async_sessionmaker(self.engine, expire_on_commit=False)
        self._file = Path(self.url.database) if _is_sqlite(self.url) and self.url.database else None
        # SQLite has one writer at a time: waiting here is fair and cheap, while SQLite itself would sleep and poll.
        self._writing = anyio.Lock() if _is_sqlite(self.url) else None
        self._lock_timeout = settings.database_lock_timeout or None
        self._shares = WriterLimit(max(1, settings.database_pool_size // SHARE_OF_A_USER))
        self._driver_errors = driver_errors(self.url)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncSession]:
        """Opens a session whose every query is its own transaction and costs one round trip. Raises SQLAlchemyError."""
        with self._translated():
            async with self._readers() as session:
                yield session

    @asynccontextmanager
    async def rows(self) -> AsyncGenerator[AsyncConnection]:
        """Opens a connection like `read` that gives columns and no objects: cheaper, for what every request reads."""
        with self._translated():
            async with self._autocommit.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self, user_id: UUID | None = None) -> AsyncGenerator[AsyncSession]:
        """Opens a session in one transaction, which is committed when the block ends and rolled back when it raises.

        Callers that change the rows of one user pass `user_id`: while these rows are locked, only a share of the
        connections waits for them. Raises SQLAlchemyError.
        """
        with self._translated():
            async with self._shares.hold(user_id), self._turn(), self._writers.begin() as session:
                yield session
                await notify_processes(session, self.listeners.id)
        self.listeners.notify(session)

    async def check(self) -> None:
        """Raises SetupError when the database cannot be used."""
        if self._file and not self._file.parent.is_dir():
            raise SetupError(
                f"The folder {self._file.parent} of the database does not exist: make it or correct DATABASE_URL."
            )
        try:
            if self._file:  # when aiosqlite fails, its thread may outlive the loop, and print a traceback
                sqlite3.connect(self._file).close()
            is_pooled = await self._is_pooled()
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise SetupError(describe_unreachable(self._settings, error)) from None
        if is_pooled and not self._settings.database_pooler:
            raise SetupError(describe_pooler(self._settings))

    async def _is_pooled(self) -> bool:
        """Tells whether another process than the one that the driver was told about answers."""
        if _is_sqlite(self.url):
            await self.ping()
            return False
        async with self.rows() as connection:
            answering = await connection.scalar(text("SELECT pg_backend_pid()"))
            driver: Any = (await connection.get_raw_connection()).driver_connection
            return answering != driver.get_server_pid()

    async def ping(self) -> None:
        async with self.read() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()
        await self._opener.finish()

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """Waits for its turn to write, for as long as for any other lock. Raises TimeoutError."""
        if self._writing is None:
            yield
            return
        with anyio.fail_after(self._lock_timeout):
            await self._writing.acquire()
        try:
            yield
        finally:
            self._writing.release()

    @contextmanager
    def _translated(self) -> Generator[None]:
        """Raises drivers' errors as SQLAlchemyError, since SQLAlchemy does not wrap those of connecting."""
        try:
            yield
        except self._driver_errors as error:
            raise as_database_error(error) from error


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[Database]:
    """Opens the database until the block ends. Raises SetupError when it cannot be used."""
    database = Database(settings)
    try:
        await database.check()
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_reserved(database: Database, settings: Settings, seconds: float) -> AsyncGenerator[Database]:
    """Opens a database with one connection, for what must not wait for others. Statements on it may take `seconds`.

    SQLite has one writer whatever the connection, so there the same database is yielded.
    """
    if _is_sqlite(settings.database_url):
        yield database
        return
    alone = {"database_pool_size": 1, "database_max_overflow": 0, "database_statement_timeout": seconds}
    reserved = Database(settings.model_copy(update=alone))
    try:
        yield reserved
    finally:
        await reserved.close()


def _create_engine(settings: Settings, opener: ConnectionOpener) -> AsyncEngine:
    sqlite = _is_sqlite(settings.database_url)
    url, arguments = (settings.database_url, {}) if sqlite else _driver_arguments(settings)
    engine = create_async_engine(
        url,
        echo=settings.database_echo,
        hide_parameters=True,  # errors would quote them: password hashes and people's words
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        skip_autocommit_rollback=not sqlite,  # SQLite's all look like autocommit, in a transaction too
        poolclass=ConnectionPool,
        connect_args=arguments | {"async_creator_fn": opener.open},
    )
    _ping_after_idleness(engine, sqlite=sqlite)
    _discard_silent_connections(engine)
    if sqlite:
        _prepare_sqlite(engine, settings.database_lock_timeout)
    elif settings.database_pooler and (limits := _time_limits(settings)):
        _limit_transactions(engine, limits)
    return engine


def _driver_arguments(settings: Settings) -> tuple[URL, dict[str, Any]]:
    """Returns the URL and the other arguments of asyncpg.

    A pooler gives each transaction another connection: it can neither keep prepared statements nor time limits.
    """
    url, arguments = for_driver(settings.database_url)
    longest = settings.database_statement_timeout
    arguments["command_timeout"] = longest + CANCEL_SECONDS if longest else None
    if settings.database_pooler:
        return url, arguments | {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    return url, arguments | {"server_settings": _time_limits(settings)}


def _time_limits(settings: Settings) -> dict[str, str]:
    """Returns the time limits as PostgreSQL counts them, in milliseconds; a limit of 0 is none."""
    seconds = {
        "statement_timeout": settings.database_statement_timeout,
        "lock_timeout": settings.database_lock_timeout,
    }
    return {name: str(math.ceil(limit * 1_000)) for name, limit in seconds.items() if limit}


def _limit_transactions(engine: AsyncEngine, limits: Mapping[str, str]) -> None:
    """Sets the time limits in each transaction. Single reads have none but the driver's `command_timeout`."""
    statement = f"SELECT {', '.join(f'set_config({name!r}, {limit!r}, true)' for name, limit in limits.items())}"

    @event.listens_for(engine.sync_engine, "begin")
    def _limit(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql(statement)


def _connector(url: URL) -> Callable[..., Awaitable[Any]]:
    return _open_sqlite if _is_sqlite(url) else partial(_open_postgresql, url)


async def _open_sqlite(*arguments: Any, **options: Any) -> Any:
    connection = import_module("aiosqlite").connect(*arguments, **options)
    connection._thread.daemon = True  # as SQLAlchemy does: no connection keeps a process from ending
    return await connection


async def _open_postgresql(url: URL, *arguments: Any, **options: Any) -> Any:
    connection = await import_module("asyncpg").connect(*arguments, **options)
    keep_alive(url, connection)
    return connection


def _ping_after_idleness(engine: AsyncEngine, *, sqlite: bool) -> None:
    """Pings a connection before use only after it was idle; one that was just used is known to be alive.

    One that the server has closed, as the driver knows, is not used at all.
    """
    dialect = engine.sync_engine.dialect

    @event.listens_for(engine.sync_engine, "checkin")
    def _rest(_connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info["rests_since"] = monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def _ping(connection: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        driver: Any = entry.driver_connection
        if not sqlite and driver.is_closed():
            raise DisconnectionError
        if monotonic() - entry.info.get("rests_since", monotonic()) < PING_AFTER_IDLE_SECONDS:
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error


def _discard_silent_connections(engine: AsyncEngine) -> None:
    """Discards a connection whose answer timed out, since the answer could be taken for that of the next statement."""

    @event.listens_for(engine.sync_engine, "handle_error")
    def _discard(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, TimeoutError):
            context.is_disconnect, context.invalidate_pool_on_disconnect = True, False


def _prepare_sqlite(engine: AsyncEngine, lock_timeout: float) -> None:
    """Switches on the write-ahead log and foreign keys, and makes transactions take the write lock when they begin.

    A transaction that starts by reading and writes later would fail at once if another wrote in between.
    """

    @event.listens_for(engine.sync_engine, "connect")
    def _pragmas(connection: Any, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={math.ceil(lock_timeout * 1_000)}")
        _use_wal(cursor, monotonic() + max(lock_timeout, 1))
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("without_transaction"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _use_wal(cursor: Any, deadline: float) -> None:
    """Retries by itself: of two connections that create the file at once, SQLite refuses one without waiting."""
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
            await_only(asyncio.sleep(0.01))


def _autocommit(url: URL) -> dict[str, Any]:
    """Returns the options of autocommit. SQLite's connections are in it already: setting it again would cost five trips
    to the connection's thread, and a caller that is cancelled during one would lose the connection."""
    return {"without_transaction": True} if _is_sqlite(url) else {"isolation_level": "AUTOCOMMIT"}


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"
