"""Tests how much an agent reasons: as it says itself, or as a message asks."""

from collections.abc import AsyncGenerator

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.core.config import Settings
from app.core.database import Database
from app.models.execution import Execution
from app.schemas.execution import Configuration
from tests.agents import AGENTS, EXECUTIONS, agent, ended, execute, play
from tests.chats import SEND
from tests.conftest import running


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


async def test_an_agent_has_an_effort_that_null_clears(alice: httpx2.AsyncClient) -> None:
    made = await agent(alice, reasoning_effort="low")
    path = f"{AGENTS}/{made['id']}"
    assert made["reasoning_effort"] == "low"
    renamed = (await alice.patch(path, json={"name": "Other"})).json()
    assert renamed["reasoning_effort"] == "low"
    assert (await alice.patch(path, json={"reasoning_effort": "max"})).json()["reasoning_effort"] == "max"
    assert (await alice.patch(path, json={"reasoning_effort": None})).json()["reasoning_effort"] is None
    assert (await alice.get(path)).json()["reasoning_effort"] is None
    for wrong in ("", "huge", 3):
        assert (await alice.patch(path, json={"reasoning_effort": wrong})).status_code == 422
        assert (await alice.post(SEND, json={"content": "?", "reasoning_effort": wrong})).status_code == 422


async def test_what_a_message_asks_wins_over_the_agents_own(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, "done")
    helper = await agent(alice, reasoning_effort="low")
    body = {"content": "?", "agent_id": helper["id"]}
    first = (await alice.post(SEND, json=body)).json()
    more = {**body, "conversation_id": first["conversation_id"]}
    second = (await alice.post(SEND, json={**more, "reasoning_effort": "high"})).json()
    await alice.post(f"{SEND}/{second['id']}/regenerate", json={"reasoning_effort": "none"})
    await alice.post(f"{SEND}/{second['id']}/regenerate", json={"reasoning_effort": None})
    asked = [prompt.reasoning_effort for prompt in model.prompts]
    assert asked == ["low", "high", "none", "low"]
    shown = (await alice.get(f"{EXECUTIONS}/{second['execution_id']}")).json()
    assert shown["configuration"]["reasoning_effort"] == "high"


async def test_an_execution_runs_with_the_agents_effort(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, "done")
    await ended(alice, (await execute(alice, (await agent(alice, reasoning_effort="medium"))["id"]))["id"])
    await ended(alice, (await execute(alice, (await agent(alice))["id"]))["id"])
    assert [prompt.reasoning_effort for prompt in model.prompts] == ["medium", None]


async def test_a_configuration_of_an_earlier_version_still_loads(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database
) -> None:
    play(app, "done")
    made = await execute(alice, (await agent(alice))["id"])
    await ended(alice, made["id"])
    async with database.write() as session:
        execution = (await session.scalars(select(Execution))).one()
        execution.configuration = {
            name: value for name, value in execution.configuration.items() if name != "reasoning_effort"
        }
        assert Configuration.model_validate(execution.configuration).reasoning_effort is None
    shown = await alice.get(f"{EXECUTIONS}/{made['id']}")
    assert (shown.status_code, shown.json()["configuration"]["reasoning_effort"]) == (200, None)
