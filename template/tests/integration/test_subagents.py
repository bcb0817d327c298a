"""Tests agents that delegate to subagents."""

import asyncio
from collections.abc import AsyncGenerator
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from app.core.database import Database
from app.services.ai import AssistantMessage, ModelFailure, Prompt
from tests.agents import (
    EXECUTIONS,
    Thinking,
    agent,
    answer,
    asking,
    by_role,
    calls,
    delegates,
    ended,
    events,
    execute,
    play,
    reached,
    returned,
    team,
)
from tests.conftest import MakeSettings, client_for, running, sign_in

SUM = calls(("calculate", {"expression": "2 + 3"}))


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


async def test_an_agent_delegates_and_goes_on_with_the_result(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, by_role(delegates, lambda prompt: f"I was told to {prompt.messages[0].text}"))
    chief = await team(alice)
    done = await ended(alice, (await execute(alice, chief["id"]))["id"])
    assert done["output"] == "The helper says: I was told to help"
    assert (done["usage"]["steps"], done["usage"]["input_tokens"]) == (3, 30)
    told = await events(alice, done["id"])
    started, completed = (event.data for event in told if event.type.startswith("subagent."))
    assert (started["name"], completed["status"]) == ("The Helper!", "completed")
    child = (await alice.get(f"{EXECUTIONS}/{started['execution']}")).json()
    assert (child["parent_id"], child["input"], child["usage"]["steps"]) == (done["id"], "help", 1)
    assert [item["id"] for item in (await alice.get(EXECUTIONS)).json()["items"]] == [done["id"]]


async def test_a_subagent_that_fails_is_a_sentence_to_the_agent(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, by_role(delegates, lambda _: ModelFailure("refused", "The model declined.")))
    done = await ended(alice, (await execute(alice, (await team(alice))["id"]))["id"])
    assert done["output"] == "The helper says: The subagent failed: The model declined."


async def test_cancelling_ends_what_was_delegated_too(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    thinking = Thinking()
    play(app, by_role(delegates, thinking))
    queued = await execute(alice, (await team(alice))["id"])
    await thinking.begun.wait()
    await alice.post(f"{EXECUTIONS}/{queued['id']}/cancel")
    [started] = [event for event in await events(alice, queued["id"]) if event.type == "subagent.started"]
    child = (await alice.get(f"{EXECUTIONS}/{started.data['execution']}")).json()
    assert (child["status"], (await events(alice, child["id"]))[-1].type) == ("cancelled", "execution.cancelled")


async def test_a_subagent_that_is_cancelled_lets_the_agent_go_on(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    thinking = Thinking()
    play(app, by_role(delegates, thinking))
    queued = await execute(alice, (await team(alice))["id"])
    await thinking.begun.wait()
    started = (await alice.get(EXECUTIONS, params={"status": "running", "agent_id": (await helper_of(alice))})).json()
    await alice.post(f"{EXECUTIONS}/{started['items'][0]['id']}/cancel")
    assert (await ended(alice, queued["id"]))["output"] == "The helper says: The subagent was cancelled."


async def helper_of(client: httpx2.AsyncClient) -> str:
    [chief, helper] = (await client.get("/api/v1/agents")).json()["items"]
    assert chief["subagents"][0]["id"] == helper["id"]
    return helper["id"]


async def test_whoever_follows_an_agent_hears_what_its_subagent_asks(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    helper = await asking(alice, "calculate", name="The Helper!")
    chief = await agent(alice, subagent_ids=[helper["id"]])
    play(app, by_role(delegates, lambda prompt: " ".join(returned(prompt)) or SUM))
    queued = await execute(alice, chief["id"])
    async with asyncio.timeout(10):
        while not (waiting := (await alice.get(EXECUTIONS, params={"agent_id": helper["id"]})).json()["items"]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await reached(alice, waiting[0]["id"], "waiting")
    assert (await answer(alice, waiting[0]["id"], True)).status_code == 200
    done = await ended(alice, queued["id"])
    told = [event for event in await events(alice, done["id"]) if event.type.startswith("approval.")]
    assert [(event.type, event.data["of"]) for event in told] == [
        ("approval.requested", waiting[0]["id"]),
        ("approval.answered", waiting[0]["id"]),
    ]
    assert done["output"] == "The helper says: 5"


async def test_agents_are_not_nested_too_deeply(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_SUBAGENT_DEPTH", "0")
    async with running(make_settings(), is_server=True) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        play(app, by_role(delegates, lambda _: "never"))
        done = await ended(alice, (await execute(alice, (await team(alice))["id"]))["id"])
    assert "nested too deeply" in done["output"]


async def test_circles_that_came_about_later_end(app: FastAPI, alice: httpx2.AsyncClient, database: Database) -> None:
    """Stores a cycle, as two concurrent changes can that are each valid by themselves."""
    from app.models.agent import AgentSubagent

    chief = await team(alice)
    async with database.write() as session:
        session.add(AgentSubagent(agent_id=UUID(await helper_of(alice)), subagent_id=UUID(chief["id"])))

    def everyone(prompt: Prompt) -> AssistantMessage | str:
        [tool] = prompt.tools
        return " / ".join(returned(prompt)) or calls((tool.name, {"task": "you do it"}))

    play(app, everyone)
    done = await ended(alice, (await execute(alice, chief["id"]))["id"])
    assert done["output"] == "This agent is itself waiting for your result: do the task without it."
