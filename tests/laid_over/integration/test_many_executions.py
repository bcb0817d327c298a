"""Tests that requests read few rows, however many executions there were before."""

from collections.abc import AsyncGenerator
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import insert, text

from app.core.config import Settings
from app.core.database import Database
from app.models.base import now
from app.models.execution import Execution, ExecutionEvent, ExecutionStatus
from app.repositories.execution_queue import Claimant, RunRepository
from tests.agents import EXECUTIONS, agent, ended, execute
from tests.conftest import running
from tests.counting import assert_little_is_read, executed

MANY = 10_000


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


@pytest.fixture
async def agent_id(alice: httpx2.AsyncClient, database: Database) -> str:
    """Returns the id of an agent that has many completed executions."""
    made, done = await agent(alice), {"finished_at": now(), "status": ExecutionStatus.completed}
    of = {"user_id": UUID((await alice.get("/api/v1/users/me")).json()["id"]), "agent_id": UUID(made["id"])}
    ids = [uuid4() for _ in range(MANY)]
    async with database.write() as session:
        rows = [{**of, **done, "id": id, "input": "go", "configuration": {}} for id in ids]
        await session.execute(insert(Execution), rows)
        told = [{"execution_id": id, "sequence": 1, "type": "execution.started", "data": {}} for id in ids]
        await session.execute(insert(ExecutionEvent), told)
        await session.execute(text("ANALYZE"))
    return made["id"]


async def test_a_new_one_reads_none_of_the_old_ones(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database, agent_id: str
) -> None:
    with executed(app, "executions") as found:
        await ended(alice, (await execute(alice, agent_id))["id"])
    await assert_little_is_read(database, found)


@pytest.mark.usefixtures("agent_id")
async def test_a_page_reads_a_page(app: FastAPI, alice: httpx2.AsyncClient, database: Database) -> None:
    with executed(app, "executions") as found:
        page = (await alice.get(EXECUTIONS)).json()
        await alice.get(EXECUTIONS, params={"cursor": page["next_cursor"]})
    await assert_little_is_read(database, [statement for statement in found if "LIMIT" in statement[0]])


@pytest.mark.usefixtures("agent_id")
async def test_a_page_of_an_export_reads_a_page(app: FastAPI, alice: httpx2.AsyncClient, database: Database) -> None:
    with executed(app, "FROM execution") as found:
        exported = (await alice.get("/api/v1/users/me/export")).json()
    assert [len({row["id"] for row in exported[table]}) for table in ("executions", "execution_events")] == [MANY] * 2
    pages = ("executions.configuration", "execution_events.data")
    await assert_little_is_read(database, [one for one in found if any(page in one[0] for page in pages)])


@pytest.mark.usefixtures("agent_id")
async def test_what_a_worker_looks_for_again_and_again_is_found_by_an_index(app: FastAPI, database: Database) -> None:
    with executed(app, "executions.status") as found:
        async with app.state.database.read() as session:
            runs = RunRepository(session)
            await runs.of_process(uuid4())
            for also_of_dead in (False, True):
                await runs.list_claimable(Claimant(uuid4(), (), also_of_dead=also_of_dead), 10)
            await runs.states([uuid4()])
    await assert_little_is_read(database, found)
