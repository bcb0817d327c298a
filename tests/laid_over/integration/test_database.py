import asyncio
import gc
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from asyncpg import InterfaceError
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import QueuePool

from app.core import database as database_module
from app.core.config import Settings
from app.core.database import Database, open_database
from app.core.errors import NotFound, SetupError
from app.models.user import User
from app.repositories.user import UserRepository
from tests.conftest import BACKENDS, MakeSettings, end_other_connections


async def _count(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(User)) or 0


async def _add(database: Database, email: str) -> User:
    async with database.write() as session:
        return await UserRepository(session).create(email=email, hashed_password="x")


async def test_a_write_is_kept_when_its_block_ends(database: Database) -> None:
    user = await _add(database, "a@example.com")
    async with database.read() as session:
        found = await UserRepository(session).get(user.id)
    assert (found.email, found.created_at) == ("a@example.com", user.created_at)
    assert found.created_at.tzinfo is not None


async def test_a_file_that_another_process_is_making_is_waited_for(make_settings: MakeSettings, tmp_path: Path) -> None:
    """Waits even with a lock timeout of zero: SQLite fails one of two processes that create a file at once."""
    path = tmp_path / "new.db"
    settings = make_settings(database_url=f"sqlite:///{path}", database_lock_timeout=0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        opened = asyncio.create_task(_opened(settings))
        assert not (await asyncio.wait([opened], timeout=0.1))[0]
        other.execute("COMMIT")
        await opened


async def _opened(settings: Settings) -> None:
    async with open_database(settings):
        pass


async def test_nothing_of_a_write_is_kept_when_its_block_raises(database: Database) -> None:
    async def fail() -> None:
        async with database.write() as session:
            await UserRepository(session).create(email="a@example.com", hashed_password="x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await fail()
    assert await _count(database) == 0


async def test_a_connection_that_begins_with_a_write_that_fails_locks_nothing(
    settings: Settings, database: Database
) -> None:
    """Uses a fresh connection, since one that has been read with is in another state."""
    fresh = Database(settings)
    with pytest.raises(NotFound):
        async with fresh.write() as session:
            await UserRepository(session).get(uuid4())
    await asyncio.wait_for(_add(database, "a@example.com"), 2)
    await _add(fresh, "b@example.com")
    await fresh.close()


async def test_whoever_is_cancelled_while_a_connection_opens_leaves_nothing(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    before = asyncio.all_tasks()
    for turns in range(60):
        database = Database(settings)
        asking = asyncio.create_task(database.ping())
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        while rest := asyncio.all_tasks() - before:
            await asyncio.wait(rest)
        await database.close()
    gc.collect()
    await asyncio.sleep(0)
    assert errors == []
    assert "garbage" not in caplog.text


async def test_the_end_waits_for_connections_whose_opening_was_cancelled(settings: Settings) -> None:
    before = asyncio.all_tasks()
    for milliseconds in range(30):
        database = Database(settings)
        asking = asyncio.create_task(database.ping())
        await asyncio.sleep(milliseconds / 1_000)  # a moment of opening it, each time another
        asking.cancel()
        await asyncio.wait({asking})
        await database.close()
        assert asyncio.all_tasks() == before


@pytest.mark.parametrize("opens", ["read", "write", "rows"])
async def test_a_connection_that_comes_back_after_the_end_is_closed(settings: Settings, opens: str) -> None:
    database = Database(settings)
    async with getattr(database, opens)() as session:
        opened = session if opens == "rows" else await session.connection()
        driver = (await opened.get_raw_connection()).driver_connection
        await session.execute(text("SELECT 1"))
        await database.close()
    with pytest.raises((ValueError, InterfaceError), match=r"closed|no active connection"):
        await driver.execute("SELECT 1")


async def test_a_connection_that_is_opened_after_the_end_is_closed(database: Database) -> None:
    await database.close()
    async with database.rows() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
    with pytest.raises((ValueError, InterfaceError), match=r"closed|no active connection"):
        await driver.execute("SELECT 1")


async def test_whoever_is_cancelled_while_reading_gives_the_connection_back(database: Database) -> None:
    for turns in range(40):
        await database.ping()
        asking = asyncio.create_task(database.ping())
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        assert await _count(database) == 0
        assert cast("QueuePool", database.engine.pool).checkedout() == 0


async def test_a_broken_rule_of_the_table_rolls_back(database: Database) -> None:
    await _add(database, "a@example.com")
    with pytest.raises(IntegrityError):
        await _add(database, "a@example.com")
    assert await _count(database) == 1


async def test_many_writers_at_once_all_succeed(database: Database) -> None:
    async def read_then_write(n: int) -> None:
        async with database.write() as session:
            await session.scalar(select(func.count()).select_from(User))
            await asyncio.sleep(0)
            await UserRepository(session).create(email=f"{n}@example.com", hashed_password="x")

    await asyncio.gather(*(read_then_write(n) for n in range(40)))
    assert await _count(database) == 40


async def test_two_processes_that_write_wait_for_each_other(settings: Settings, database: Database) -> None:
    async with open_database(settings) as other:
        await asyncio.gather(*(_add(d, f"{n}-{i}@e.com") for n in range(10) for i, d in enumerate((database, other))))
    assert await _count(database) == 20


async def test_no_connection_is_left_out(database: Database) -> None:
    await _add(database, "a@example.com")
    await _count(database)
    assert database.engine.pool.checkedout() == 0  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_connection_that_died_while_it_rested_is_replaced(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.ping()
    monkeypatch.setattr(database_module, "PING_AFTER_IDLE_SECONDS", 0)
    if database_url.startswith("postgresql"):
        await end_other_connections(database_url)
    await database.ping()


@pytest.mark.parametrize("database_url", [kind for kind in BACKENDS if kind == "postgresql"], indirect=True)
async def test_connections_that_the_server_has_closed_are_not_used(database: Database, database_url: str) -> None:
    async with database.read() as first, database.read() as second:
        await asyncio.gather(*(session.execute(text("SELECT 1")) for session in (first, second)))
        drivers: Any = [
            (await (await session.connection()).get_raw_connection()).driver_connection for session in (first, second)
        ]
    await end_other_connections(database_url)
    while not all(driver.is_closed() for driver in drivers):  # noqa: ASYNC110 - the server's message is still on its way
        await asyncio.sleep(0.01)
    for _ in drivers:
        await database.ping()


async def test_a_read_opens_no_transaction(database: Database, database_url: str) -> None:
    """Sends no BEGIN before and no ROLLBACK after a read, each of which would be a round trip."""
    sent: list[str] = []
    async with database.read() as session:
        driver: Any = (await (await session.connection()).get_raw_connection()).driver_connection
    if database_url.startswith("postgresql"):
        driver.add_query_logger(lambda query: sent.append(query.query))
    else:
        await driver.set_trace_callback(sent.append)
    async with database.read() as session:
        await session.scalar(text("SELECT 1"))
    assert not [statement for statement in sent if statement.startswith(("BEGIN", "ROLLBACK", "COMMIT"))]
    async with database.write() as session:
        await session.scalar(text("SELECT 1"))
    assert [statement for statement in sent if statement.startswith("BEGIN")]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (
            "postgresql://postgres:hunter2@127.0.0.1:1/none",
            r"^The database .* cannot be used \(.*\): start it, create it",
        ),
        ("sqlite:////no/such/folder/app.db", r"^The folder /no/such/folder of the database does not exist: make it"),
    ],
)
async def test_an_unusable_database_is_one_sentence(url: str, sentence: str) -> None:
    settings = Settings.model_validate({"secret_key": "x" * 32, "database_url": url})
    with pytest.raises(SetupError, match=sentence) as error:
        async with open_database(settings):
            pass
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)
