"""One engine a process. `read()` and `write()` are the only ways to a session, `rows()` to a bare connection."""

import asyncio
import math
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
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

from app.core.config import Settings
from app.core.database_errors import as_database_error, driver_errors
from app.core.errors import SetupError
from app.core.keyed_limit import KeyedLimit

PING_AFTER_IDLE_SECONDS = 30
SHARE_OF_A_USER = 4
"""One of so many parts of the connections is the most that writes of one user may hold at a time."""
CANCEL_SECONDS = 2.0
"""So much longer than the database itself may take, its answer is waited for; then the connection is given up."""

_closing: set[asyncio.Task[None]] = set()
"""Else the garbage collector could take them."""


class Database:
    """Sessions on the configured database, the same for PostgreSQL and SQLite."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.database_url
        self.engine = _create_engine(settings)
        self._autocommit = self.engine.execution_options(**_autocommit(self.url))
        self._readers = async_sessionmaker(self._autocommit, expire_on_commit=False)
        self._writers = async_sessionmaker(self.engine, expire_on_commit=False)
        self._file = Path(self.url.database) if _is_sqlite(self.url) and self.url.database else None
        # One writer at a time on SQLite: waiting here is fair and cheap, waiting inside SQLite is a sleep.
        self._writing = anyio.Lock() if _is_sqlite(self.url) else None
        self._lock_timeout = settings.database_lock_timeout or None
        self._shares = KeyedLimit(max(1, settings.database_pool_size // SHARE_OF_A_USER))
        self._driver_errors = driver_errors(self.url)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncSession]:
        """A session whose every query is its own transaction and costs one round trip. Raises SQLAlchemyError."""
        with self._translated():
            async with self._readers() as session:
                yield session

    @asynccontextmanager
    async def rows(self) -> AsyncGenerator[AsyncConnection]:
        """The same for columns in place of objects: a part of the work, for what every request reads."""
        with self._translated():
            async with self._autocommit.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self, user_id: UUID | None = None) -> AsyncGenerator[AsyncSession]:
        """A session in one transaction: committed when the block ends, rolled back when it raises.

        What changes the rows of one user names them: where these are locked, no more than a share of all connections
        waits. Raises SQLAlchemyError.
        """
        with self._translated():
            async with self._shares.hold(user_id), self._turn(), self._writers.begin() as session:
                yield session

    async def check(self) -> None:
        """Raises SetupError when the database cannot be used."""
        if self._file and not self._file.parent.is_dir():
            raise SetupError(
                f"The folder {self._file.parent} of the database does not exist: make it or correct DATABASE_URL."
            )
        try:
            await self.ping()
        except SQLAlchemyError as error:
            raise SetupError(_unreachable(self.url, error)) from None

    async def ping(self) -> None:
        async with self.read() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """Waits for as long as for any other lock. Raises TimeoutError."""
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
        """Lets out one kind of error: SQLAlchemy hands on what a driver raises while it connects as it is."""
        try:
            yield
        except self._driver_errors as error:
            raise as_database_error(error) from error


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[Database]:
    """Raises SetupError when the database cannot be used."""
    database = Database(settings)
    try:
        await database.check()
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_reserved(database: Database, settings: Settings, seconds: float) -> AsyncGenerator[Database]:
    """One connection of its own, for what must not wait for others. Statements on it may take so many seconds.

    SQLite has one writer whichever connection it uses, so there it is the same database.
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


def _create_engine(settings: Settings) -> AsyncEngine:
    sqlite = _is_sqlite(settings.database_url)
    engine = create_async_engine(
        settings.database_url,
        echo=settings.database_echo,
        hide_parameters=True,  # which an error would quote: passwords' hashes and people's words are among them
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        skip_autocommit_rollback=not sqlite,  # for which every connection there is in autocommit, whatever it does
        connect_args={
            "async_creator_fn": partial(_open_to_the_end, _open_sqlite if sqlite else _open_postgresql),
            **({} if sqlite else _time_limits(settings)),
        },
    )
    _ping_after_idleness(engine, sqlite=sqlite)
    _discard_silent_connections(engine)
    if sqlite:
        _prepare_sqlite(engine, settings.database_lock_timeout)
    return engine


def _time_limits(settings: Settings) -> dict[str, Any]:
    """What the driver tells PostgreSQL, which counts in milliseconds. A limit of 0 is none."""
    seconds = {
        "statement_timeout": settings.database_statement_timeout,
        "lock_timeout": settings.database_lock_timeout,
    }
    told = {name: str(math.ceil(limit * 1_000)) for name, limit in seconds.items() if limit}
    longest = settings.database_statement_timeout
    return {"server_settings": told, "command_timeout": longest + CANCEL_SECONDS if longest else None}


async def _open_to_the_end(connect: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
    """Also when whoever wanted the connection is cancelled: one that is half open is lost, and warns of it."""
    opening = asyncio.ensure_future(connect(*arguments, **options))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        closing = asyncio.create_task(_close(opening))
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)
        raise


async def _close(opening: "asyncio.Future[Any]") -> None:
    """Since nobody wants the connection any more, nobody wants to hear why it cannot be opened either."""
    await asyncio.wait({opening})
    if not opening.cancelled() and opening.exception() is None:
        await opening.result().close()


async def _open_sqlite(*arguments: Any, **options: Any) -> Any:
    connection = import_module("aiosqlite").connect(*arguments, **options)
    connection._thread.daemon = True  # as SQLAlchemy has it: no connection holds up the end of a process
    return await connection


async def _open_postgresql(*arguments: Any, **options: Any) -> Any:
    return await import_module("asyncpg").connect(*arguments, **options | {"timeout": 10})


def _ping_after_idleness(engine: AsyncEngine, *, sqlite: bool) -> None:
    """A busy connection is known to be alive; only one that rested is tried before it is used.

    The driver knows of one that the server has closed, which is not used at all.
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
    """An answer that did not come in time could come to the next statement: its connection is not used again."""

    @event.listens_for(engine.sync_engine, "handle_error")
    def _discard(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, TimeoutError):
            context.is_disconnect, context.invalidate_pool_on_disconnect = True, False


def _prepare_sqlite(engine: AsyncEngine, lock_timeout: float) -> None:
    """Write-ahead log, foreign keys, and transactions that take the write lock when they begin.

    A transaction that starts by reading and writes later fails at once when another wrote in between.
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
    """Tries again by itself: of two that make a file at once, SQLite refuses one without a wait."""
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
            await_only(asyncio.sleep(0.01))


def _autocommit(url: URL) -> dict[str, Any]:
    """On SQLite every connection is in autocommit; to be told so again would cost five trips to its thread, and
    whoever is cancelled during one loses the connection."""
    return {"without_transaction": True} if _is_sqlite(url) else {"isolation_level": "AUTOCOMMIT"}


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _unreachable(url: URL, error: Exception) -> str:
    where = url.set(query={}).render_as_string(hide_password=True)
    reason = str(getattr(error, "orig", error)).split("\n")[0].split(": ")[-1]
    return f"The database {where} cannot be used ({reason.strip('<>')}): start it, create it or correct DATABASE_URL."
