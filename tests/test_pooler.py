"""Tests that all works through a real PgBouncer in each of its modes, and that one which nobody names is named."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
import pytest
from databases import pgbouncer
from processes import run, succeed
from servers import COMMAND, Project, all_completed
from services import database
from test_faults_agents import TOOLS, person

pytestmark = [pytest.mark.deep, pytest.mark.slow]
PEOPLE, TURNS = 8, 5
IGNORED = {"ignore_startup_parameters": "statement_timeout,lock_timeout"}
LIMITS = """
import asyncio
from sqlalchemy import text
from app.core.config import Settings, read_settings
from app.core.database import open_database

async def fails(opened, statement):
    try:
        async with opened as session:
            await session.execute(text(statement))
    except Exception as error:
        print(type(error).__name__, getattr(getattr(error, "orig", None), "sqlstate", None))

async def main():
    async with open_database(read_settings(Settings)) as database:
        async with database.write() as session:
            await session.execute(text("LOCK TABLE alembic_version"))
            await fails(database.write(), "LOCK TABLE alembic_version")
        await fails(database.write(), "SELECT pg_sleep(20)")
        await fails(database.read(), "SELECT pg_sleep(20)")
        async with database.read() as session:
            print(await session.scalar(text("SELECT current_setting('lock_timeout')")))
            print(await session.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                " AND query LIKE '%pg_sleep(20)%' AND pid <> pg_backend_pid()")))
            print(await session.scalar(text("SELECT count(*) FROM pg_prepared_statements")))

asyncio.run(main())
"""
"""Prints how limits end statements, and what they leave behind."""


@pytest.fixture
def direct() -> Iterator[str]:
    with database("postgresql") as url:
        yield url


def through(netloc: str, url: str) -> str:
    return urlsplit(url)._replace(netloc=netloc).geturl()


@pytest.mark.parametrize("options", [{}, IGNORED], ids=["refusing", "ignoring"])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_that_is_not_named_is(mode: str, options: dict[str, str], direct: str, folder: Path) -> None:
    with pgbouncer(mode, **options) as netloc:
        settings = {"SECRET_KEY": uuid4().hex, "DATABASE_URL": through(netloc, direct)}
        for command in (("db", "upgrade"), ("doctor",), ("serve", "--port=0")):
            done = run(*COMMAND, *command, cwd=folder, **settings)
            assert done.returncode != 0
            assert "is behind a connection pooler, such as PgBouncer: set DATABASE_POOLER=true" in done.stdout
            assert "Traceback" not in done.stdout


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_all_works_through_a_pooler(mode: str, direct: str, folder: Path) -> None:
    """Has more people than connections to PostgreSQL, so that each statement may meet another connection."""

    async def talk(project: Project) -> None:
        async with project.serve() as server, person(server.url) as ada:
            agent = await ada.agent(*TOOLS)
            async with asyncio.TaskGroup() as group:
                executing = group.create_task(ada.execute(agent, PEOPLE))
                for _ in range(PEOPLE):
                    group.create_task(one_after_another(ada.client, server.url))
            await all_completed(ada.client, server.url, len(executing.result()))
            assert (await ada.client.get(f"{server.url}/health/ready")).status_code == 200
            assert await server.end(signal.SIGTERM) == 0
            assert "Traceback" not in server.log.result().decode()

    # In session mode, each connection of the application keeps one to PostgreSQL: a second one for its heartbeats.
    with pgbouncer(mode, default_pool_size="5" if mode == "transaction" else "30") as netloc:
        settings = {"DATABASE_URL": through(netloc, direct), "DATABASE_POOLER": "true", "DEMO_MODEL_DELAY": "0"}
        project = Project(folder, **settings)
        assert "has every migration" in succeed(*COMMAND, "doctor", cwd=folder, **project.settings)
        asyncio.run(talk(project))
        succeed(*COMMAND, "db", "check", cwd=folder, **project.settings)


async def one_after_another(client: httpx2.AsyncClient, url: str) -> None:
    for _ in range(TURNS):
        answer = await client.post(f"{url}/api/v1/chat/messages/stream", json={"content": "Hello"})
        assert "message.completed" in answer.text


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_time_limits_hold_through_a_pooler(mode: str, direct: str, folder: Path) -> None:
    with pgbouncer(mode) as netloc:
        settings = {"DATABASE_URL": through(netloc, direct), "DATABASE_POOLER": "true"}
        limits = {"DATABASE_LOCK_TIMEOUT": "0.2", "DATABASE_STATEMENT_TIMEOUT": "1"}
        project = Project(folder, **settings)
        said = succeed(sys.executable, "-c", LIMITS, cwd=folder, **project.settings, **limits).split("\n")
        assert said[:2] == ["DBAPIError 55P03", "DBAPIError 57014"]
        assert said[2] == "OperationalError None"  # the driver's own time limit, which also cancels the statement
        assert said[3:6] == ["0", "0", "0"]


def test_what_a_pooler_refuses_is_a_sentence(direct: str, folder: Path) -> None:
    with pgbouncer("transaction") as netloc:
        url = through(netloc, direct) + "?options=-c%20search_path%3Dother"
        settings = {"SECRET_KEY": uuid4().hex, "DATABASE_URL": url, "DATABASE_POOLER": "true"}
        done = run(*COMMAND, "db", "upgrade", cwd=folder, **settings)
        assert "refuses a parameter (unsupported startup parameter: options): leave it out" in done.stdout
