"""Tests starting, following and approving executions through WebSockets."""

from collections.abc import AsyncGenerator

import httpx2
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from tests.agents import AGENTS, ENDS, EXECUTIONS, Thinking, agent, asking, ended, events, execute, play, read
from tests.conftest import running
from tests.sockets import connected, opening, token_of


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


async def test_what_is_sent_to_an_agent_is_executed_and_followed(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    made = await agent(alice, "calculate")
    async with connected(app, f"{AGENTS}/{made['id']}/ws", alice) as socket:
        await socket.send(type="send", input="2 + 3", ref="mine")
        told = await socket.until(*ENDS)
    assert {frame["ref"] for frame in told} == {"mine"}
    stored = [frame for frame in told if frame["type"] != "model.delta"]
    assert [frame["sequence"] for frame in stored] == list(range(1, len(stored) + 1))
    done = await ended(alice, told[-1]["execution_id"])
    assert (done["output"], done["agent_id"]) == (told[-1]["output"], made["id"])


async def test_the_same_key_is_executed_once(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    made = await agent(alice)
    async with connected(app, f"{AGENTS}/{made['id']}/ws", alice) as socket:
        for _ in range(2):
            await socket.send(type="send", input="go", idempotency_key="k")
            await socket.until(*ENDS)
    assert len((await alice.get(EXECUTIONS)).json()["items"]) == 1


async def test_an_execution_is_followed_from_its_beginning_and_from_any_event(
    app: FastAPI, alice: httpx2.AsyncClient
) -> None:
    queued = await execute(alice, (await agent(alice))["id"])
    await ended(alice, queued["id"])
    stored = [event.data for event in await events(alice, queued["id"]) if event.type != "model.delta"]
    async with connected(app, f"{EXECUTIONS}/{queued['id']}/ws", alice) as socket:
        assert await socket.until(*ENDS) == stored
        await socket.send(type="resume", execution_id=queued["id"], sequence=2)
        assert await socket.until(*ENDS) == stored[2:]


async def test_a_call_is_approved_through_the_socket(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    made = await asking(alice, "calculate")
    async with connected(app, f"{AGENTS}/{made['id']}/ws", alice) as socket:
        await socket.send(type="send", input="2 + 3")
        asked = (await socket.until("approval.requested"))[-1]
        answer = {"execution_id": asked["execution_id"], "tool_call_id": asked["tool_call_id"], "approved": True}
        await socket.send(type="answer", **answer)
        assert (await socket.until(*ENDS))[-1]["type"] == "execution.completed"
        await socket.send(type="answer", **answer, ref="again")
        refused = await socket.frame()
    assert (refused["type"], refused["code"], refused["ref"]) == ("error", "approval_closed", "again")


async def test_an_execution_is_cancelled_through_the_socket(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    thinking = Thinking()
    play(app, thinking)
    queued = await execute(alice, (await agent(alice))["id"])
    async with connected(app, f"{EXECUTIONS}/{queued['id']}/ws", alice) as socket:
        await socket.until("model.started")
        await socket.send(type="stop", execution_id=queued["id"])
        assert (await socket.until(*ENDS))[-1]["type"] == "execution.cancelled"
    assert (await read(alice, queued["id"]))["status"] == "cancelled"


async def test_what_is_somebody_elses_does_not_open(
    app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    made = await agent(alice)
    queued = await execute(alice, made["id"])
    for path in (f"{AGENTS}/{made['id']}/ws", f"{EXECUTIONS}/{queued['id']}/ws"):
        async with opening(app, path, subprotocols=("bearer", token_of(bob))) as socket:
            assert await socket.closed() == (4404, "not_found")
