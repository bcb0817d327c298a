"""Tests what requests get while the database is unreachable, full, busy or read-only."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from functools import partial

import asyncpg
import httpx2
import pytest
from asyncpg import exceptions
from fastapi import FastAPI
from sqlalchemy import make_url, text, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.core import periodic
from app.core.config import Settings
from app.core.database import Database, open_database
from app.core.database_errors import is_unavailable
from app.models.base import now
from app.models.user import UserSession
from tests.conftest import BACKENDS, MakeSettings, client_for, running, sign_in

FOR_A_MOMENT = (
    exceptions.DeadlockDetectedError,
    exceptions.SerializationError,
    exceptions.TooManyConnectionsError,
    exceptions.DiskFullError,
    exceptions.ReadOnlySQLTransactionError,
    exceptions.QueryCanceledError,
    exceptions.LockNotAvailableError,
    exceptions.AdminShutdownError,
    exceptions.CannotConnectNowError,
    exceptions.ConnectionDoesNotExistError,
)
WRONG = (exceptions.UndefinedTableError, exceptions.UniqueViolationError, exceptions.DivisionByZeroError)


@pytest.mark.parametrize("kind", FOR_A_MOMENT)
async def test_what_may_work_a_moment_later_is_answered_so(
    kind: type[Exception], app: FastAPI, client: httpx2.AsyncClient
) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise DBAPIError("DELETE FROM users", {}, kind("secret"))

    answer = await client.get("/broken")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "secret" not in answer.text


@pytest.mark.parametrize("kind", WRONG)
def test_a_statement_that_is_wrong_is_no_lost_database(kind: type[Exception]) -> None:
    assert not is_unavailable(DBAPIError("SELECT 1", {}, kind("wrong")))


@pytest.mark.parametrize("statement", ["SELECT 1 FROM nowhere", "SELECT nothing FROM users", "SELEKT 1"])
async def test_a_statement_that_is_wrong_would_be_wrong_again(database: Database, statement: str) -> None:
    """Includes a migration that was not applied: advising the client to try again would help nobody."""
    with pytest.raises(DBAPIError) as error:
        async with database.read() as session:
            await session.execute(text(statement))
    assert not is_unavailable(error.value)


async def test_a_database_that_cannot_be_connected_to_raises_one_kind_of_error() -> None:
    url = "postgresql://postgres@127.0.0.1:1/none"
    database = Database(Settings.model_validate({"secret_key": "x" * 32, "database_url": url}))
    for session in (database.read(), database.write(), database.rows()):
        with pytest.raises(SQLAlchemyError) as error:
            async with session as connection:
                await connection.execute(text("SELECT 1"))
        assert is_unavailable(error.value)
    await database.close()


async def test_reading_does_not_fail_because_the_use_of_a_credential_cannot_be_noted(
    make_settings: MakeSettings, database_url: str
) -> None:
    async with running(make_settings(database_lock_timeout=0.05)) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        async with app.state.database.write() as session:
            await session.execute(update(UserSession).values(last_used_at=now() - timedelta(hours=1)))
        async with unwritable(app.state.database, database_url):
            assert (await alice.get("/api/v1/users/me")).status_code == 200
            answer = await alice.patch("/api/v1/users/me", json={"full_name": "Alice"})
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert (await alice.patch("/api/v1/users/me", json={"full_name": "Alice"})).status_code == 200


@asynccontextmanager
async def unwritable(database: Database, url: str) -> AsyncGenerator[None]:
    """Refuses writes, as a standby of PostgreSQL does, or SQLite while another process locks the file."""
    if not url.startswith("postgresql"):
        with closing(sqlite3.connect(make_url(url).database or "", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    for value in ("on", "off"):
        connection = await asyncpg.connect(url)
        await connection.execute("SET default_transaction_read_only = off")
        name = make_url(url).database
        await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
        await connection.close()
        await database.engine.dispose()  # only new connections have the setting
        if value == "on":
            yield


async def test_readiness_tells_of_a_loop_that_fails(
    app: FastAPI, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise RuntimeError

    monkeypatch.setattr(periodic, "OVERDUE_SECONDS", 0.01)
    async with app.state.supervisor.repeat("a loop", fail, 0.001), asyncio.timeout(5):
        while (answer := await client.get("/health/ready")).status_code == 200:
            pass
    assert (answer.status_code, answer.json()["checks"]["background"]) == (503, "down")


@pytest.mark.parametrize("database_url", [kind for kind in BACKENDS if kind == "postgresql"], indirect=True)
async def test_a_locked_person_leaves_connections_to_others(make_settings: MakeSettings, database_url: str) -> None:
    """Limits how many connections wait for the rows of one user, whoever locks these rows."""
    me, name = "/api/v1/users/me", {"full_name": "A name"}
    settings = make_settings(database_pool_size=4, database_lock_timeout=60)
    async with running(settings) as app, client_for(app) as alice, client_for(app) as bob:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        bob.headers.update(await sign_in(bob, "bob@example.com"))
        async with asyncio.timeout(20), locked(database_url, "alice@example.com") as waiting:
            changing = [asyncio.create_task(alice.patch(me, json=name)) for _ in range(8)]
            while not await waiting():  # noqa: ASYNC110 - another connection's lock, which sends no signal
                await asyncio.sleep(0.02)
            assert (await bob.patch(me, json=name)).status_code == 200
            assert await waiting() == 1
        assert [(await change).status_code for change in changing] == [200] * 8


@pytest.mark.parametrize("database_url", [kind for kind in BACKENDS if kind == "postgresql"], indirect=True)
async def test_a_lock_is_not_waited_for_longer_than_the_setting_says(
    make_settings: MakeSettings, database_url: str
) -> None:
    async with running(make_settings()) as app, client_for(app) as alice:
        headers = await sign_in(alice, "alice@example.com")
    async with running(make_settings(database_lock_timeout=0.05)) as app, client_for(app) as alice:
        alice.headers.update(headers)
        async with asyncio.timeout(20), locked(database_url, "alice@example.com"):
            answer = await alice.patch("/api/v1/users/me", json={"full_name": "A name"})
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_writers_in_a_row_wait_no_longer_than_one(make_settings: MakeSettings, database_url: str) -> None:
    """Limits the wait of all together: otherwise each would wait as long as all before it."""
    async with running(make_settings(database_lock_timeout=0.5)) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        async with unwritable(app.state.database, database_url), asyncio.timeout(4):
            changing = (alice.patch("/api/v1/users/me", json={"full_name": "A name"}) for _ in range(20))
            assert {answer.status_code for answer in await asyncio.gather(*changing)} == {503}


@asynccontextmanager
async def locked(url: str, email: str) -> AsyncGenerator[Callable[[], Awaitable[int]]]:
    """Locks the row of a user, and yields a function that counts the connections that wait for a lock."""
    holder, watcher = await asyncpg.connect(url), await asyncpg.connect(url)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM users WHERE email = $1 FOR UPDATE", email)
            yield partial(watcher.fetchval, waiting)
    finally:
        await holder.close()
        await watcher.close()


@pytest.mark.parametrize("database_url", [kind for kind in BACKENDS if kind == "postgresql"], indirect=True)
async def test_a_statement_may_not_take_longer_than_the_setting_says(make_settings: MakeSettings) -> None:
    async with open_database(make_settings(database_statement_timeout=0.05)) as database:
        with pytest.raises(SQLAlchemyError) as error:
            async with database.read() as session:
                await session.execute(text("SELECT pg_sleep(60)"))
        assert is_unavailable(error.value)
        await database.ping()


@pytest.mark.parametrize("database_url", [kind for kind in BACKENDS if kind == "postgresql"], indirect=True)
async def test_the_heartbeat_needs_no_connection_of_the_others(make_settings: MakeSettings) -> None:
    settings = make_settings(database_pool_size=1)
    async with running(settings) as app, app.state.database.read() as session, asyncio.timeout(20):
        await session.execute(text("SELECT 1"))
        await app.state.heartbeat.beat()
