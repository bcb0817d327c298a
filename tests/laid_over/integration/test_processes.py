"""Tests which processes take each other for alive."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app.core.clock import seconds_ago
from app.core.database import Database
from app.core.errors import SetupError
from app.core.periodic import Supervisor
from app.main import create_app
from app.models.process import Process
from app.repositories import process
from app.services.processes import heartbeat
from app.services.processes.heartbeat import SINGLE_SERVER_ADVICE, Heartbeat, open_heartbeat
from tests.conftest import MakeSettings


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(process, "DEAD_SECONDS", 0.3)


async def alive(database: Database) -> int:
    async with database.read() as session:
        return len((await session.scalars(process.alive())).all())


async def test_the_clock_of_the_database_counts_seconds(database: Database) -> None:
    async with database.read() as session:
        assert await session.scalar(select(seconds_ago(1) < seconds_ago(0.5)))
        assert await session.scalar(select(seconds_ago(0.5) < seconds_ago(0)))


async def test_a_process_lives_until_it_ends(database: Database) -> None:
    async with open_heartbeat(database, Supervisor(), is_server=False):
        async with open_heartbeat(database, Supervisor(), is_server=True, alone=SINGLE_SERVER_ADVICE):
            assert await alive(database) == 2
        assert await alive(database) == 1
    assert await alive(database) == 0


async def test_one_that_beats_no_more_is_dead_and_later_forgotten(database: Database) -> None:
    beats = Heartbeat(database, False)  # it beats only when it is told to
    await beats.beat()
    async with database.write() as session:
        before = await session.scalar(select(Process.last_heartbeat_at))
        assert before
        await session.execute(update(Process).values(last_heartbeat_at=before - timedelta(seconds=10)))
        assert (await session.scalars(process.alive())).all() == []
        await session.execute(update(Process).values(last_heartbeat_at=before - timedelta(days=1)))
        await process.ProcessRepository(session).forget_dead()
        assert await session.scalar(select(Process.id)) is None
    await beats.beat()
    assert await alive(database) == 1


async def test_a_second_server_without_redis_is_refused(make_settings: MakeSettings) -> None:
    first, second = (create_app(make_settings(), is_server=True) for _ in range(2))
    async with first.router.lifespan_context(first):
        with pytest.raises(SetupError, match=r"^Another server process works on this database.* set REDIS_URL"):
            async with second.router.lifespan_context(second):
                pass
    async with second.router.lifespan_context(second):
        pass


async def test_a_server_waits_for_the_one_before_it_to_end(database: Database) -> None:
    async def begin() -> None:
        async with open_heartbeat(database, Supervisor(), is_server=True, alone=SINGLE_SERVER_ADVICE):
            assert await alive(database) == 1

    async with open_heartbeat(database, Supervisor(), is_server=True):
        new = asyncio.create_task(begin())
        while await alive(database) < 2:  # noqa: ASYNC110 - only the database tells
            await asyncio.sleep(0.01)
    await new


async def test_servers_with_redis_and_commands_without_have_peers(database: Database) -> None:
    async with (
        open_heartbeat(database, Supervisor(), is_server=True),
        open_heartbeat(database, Supervisor(), is_server=True),
        open_heartbeat(database, Supervisor(), is_server=False),
    ):
        assert await alive(database) == 3
