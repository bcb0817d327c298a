"""Tests executions from the request to their end, with the demo model and real tools."""

from collections.abc import AsyncGenerator
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, true

from app.core.config import Settings
from app.core.database import Database
from app.models.base import Base
from app.models.execution import Execution, ExecutionEvent
from app.services.agents.runner import delete_old_executions
from tests.agents import (
    AGENTS,
    EXECUTIONS,
    Thinking,
    agent,
    answer,
    asking,
    ended,
    events,
    execute,
    play,
    reached,
    read,
    stored,
    types,
)
from tests.conftest import MakeSettings, client_for, running, sign_in

ONE_STEP = ["model.started", "model.completed"]
ONE_TOOL = ["tool.called", "tool.returned"]


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


async def test_an_agent_uses_its_tools_and_answers(alice: httpx2.AsyncClient) -> None:
    made = await agent(alice, "calculate", "save_note")
    queued = await execute(alice, made["id"], "What is 2 + 3?")
    assert (queued["status"], queued["started_at"], queued["output"]) == ("queued", None, None)
    told = await events(alice, queued["id"])
    assert types(told) == [
        "execution.started",
        *(*ONE_STEP, *ONE_TOOL),
        *(*ONE_STEP, *ONE_TOOL),
        *ONE_STEP,
        "execution.completed",
    ]
    assert [event.id for event in stored(told)] == list(range(1, 13))
    assert {event.data["execution_id"] for event in told} == {queued["id"]}
    done = await read(alice, queued["id"])
    assert (done["status"], done["output"], done["error"]) == ("completed", told[-1].data["output"], None)
    assert "2 + 3" in done["output"]
    assert (done["usage"]["steps"], done["usage"]) == (3, told[-1].data["usage"])
    assert done["created_at"] < done["started_at"] < done["finished_at"]
    assert (done["configuration"]["name"], done["approvals"]) == ("Helper", [])


async def test_what_a_model_says_is_told_while_it_speaks(make_settings: MakeSettings) -> None:
    settings = make_settings(demo_model_delay=0.01)
    async with running(settings, is_server=True) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        queued = await execute(alice, (await agent(alice))["id"])
        told = await events(alice, queued["id"])
    said = [event for event in told if event.type == "model.delta"]
    assert "".join(event.data["text"] for event in said) == told[-1].data["output"]
    assert {(event.id, event.data["sequence"]) for event in said} == {(2, 2)}
    assert types(told) == ["execution.started", *ONE_STEP, "execution.completed"]


async def test_events_begin_again_after_any_of_them(alice: httpx2.AsyncClient) -> None:
    queued = await execute(alice, (await agent(alice, "calculate"))["id"])
    await ended(alice, queued["id"])
    told = stored(await events(alice, queued["id"]))
    for after in range(len(told) + 1):
        assert await events(alice, queued["id"], after) == told[after:]
    assert await events(alice, queued["id"], 1_000) == []


async def test_an_execution_keeps_what_it_began_with(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    thinking = Thinking()
    model = play(app, thinking)
    made = await agent(alice, "calculate", name="Before", instructions="Be brief.")
    queued = await execute(alice, made["id"])
    await thinking.begun.wait()
    await alice.patch(f"{AGENTS}/{made['id']}", json={"name": "After", "tool_ids": [], "instructions": ""})
    await alice.delete(f"{AGENTS}/{made['id']}")
    thinking.go_on.set()
    done = await ended(alice, queued["id"])
    assert (done["status"], done["configuration"]["name"]) == ("completed", "Before")
    assert [tool["name"] for tool in done["configuration"]["tools"]] == ["calculate"]
    [prompt] = model.prompts
    assert prompt.instructions == "You are a helpful assistant.\n\nBe brief."  # AI_SYSTEM_PROMPT comes first
    assert [tool.name for tool in prompt.tools] == ["calculate"]


async def test_the_same_key_queues_once(alice: httpx2.AsyncClient) -> None:
    made = await agent(alice)
    first = await execute(alice, made["id"], **{"Idempotency-Key": "k"})
    again = await execute(alice, made["id"], **{"Idempotency-Key": "k"})
    assert first["id"] == again["id"]
    other = await alice.post(
        f"{AGENTS}/{made['id']}/execute", json={"input": "other"}, headers={"Idempotency-Key": "k"}
    )
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert len((await alice.get(EXECUTIONS)).json()["items"]) == 1


async def test_executions_are_listed_by_status_and_agent(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, "done")
    one, other = await agent(alice), await agent(alice)
    ids = [(await execute(alice, id))["id"] for id in (one["id"], other["id"], one["id"])]
    for id in ids:
        await ended(alice, id)

    async def listed(**query: str) -> list[str]:
        answer = await alice.get(EXECUTIONS, params=query)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    assert await listed() == ids[::-1]
    assert await listed(agent_id=one["id"]) == [ids[2], ids[0]]
    assert await listed(status="completed", agent_id=other["id"]) == [ids[1]]
    assert await listed(status="running") == []
    assert (await alice.get(EXECUTIONS, params={"status": "perhaps"})).status_code == 422


@pytest.mark.parametrize("input", ["", " \n", "x" * 32_001])
async def test_bad_input_is_refused(alice: httpx2.AsyncClient, input: str) -> None:
    made = await agent(alice)
    refused = await alice.post(f"{AGENTS}/{made['id']}/execute", json={"input": input})
    assert (refused.status_code, (await alice.get(EXECUTIONS)).json()["items"]) == (422, [])


async def test_an_agent_that_is_gone_is_not_executed(alice: httpx2.AsyncClient) -> None:
    made = await agent(alice)
    await alice.delete(f"{AGENTS}/{made['id']}")
    for id in (made["id"], str(uuid4())):
        refused = await alice.post(f"{AGENTS}/{id}/execute", json={"input": "go"})
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")


async def test_so_many_at_a_time_and_a_minute(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_EXECUTIONS", "2")
    monkeypatch.setenv("EXECUTIONS_PER_MINUTE", "4")
    async with running(make_settings(shutdown_grace_seconds=0), is_server=True) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        play(app, Thinking())
        made = await agent(alice)
        first, _ = [await execute(alice, made["id"]) for _ in range(2)]
        path = f"{AGENTS}/{made['id']}/execute"
        refused = await alice.post(path, json={"input": "go"})
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_executions")
        await alice.post(f"{EXECUTIONS}/{first['id']}/cancel")
        assert (await alice.post(path, json={"input": "go"})).status_code == 202
        refused = await alice.post(path, json={"input": "go"})
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert int(refused.headers["retry-after"]) <= 60


async def test_one_that_is_cancelled_ends_at_once_whatever_it_does(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    thinking = Thinking()
    play(app, thinking)
    queued = await execute(alice, (await agent(alice))["id"])
    await thinking.begun.wait()
    cancelled = (await alice.post(f"{EXECUTIONS}/{queued['id']}/cancel")).json()
    assert (cancelled["status"], cancelled["output"]) == ("cancelled", None)
    assert types(await events(alice, queued["id"])) == ["execution.started", "model.started", "execution.cancelled"]
    again = (await alice.post(f"{EXECUTIONS}/{queued['id']}/cancel")).json()
    assert again["finished_at"] == cancelled["finished_at"]


async def test_one_that_has_ended_is_not_cancelled(alice: httpx2.AsyncClient) -> None:
    queued = await execute(alice, (await agent(alice))["id"])
    done = await ended(alice, queued["id"])
    assert (await alice.post(f"{EXECUTIONS}/{queued['id']}/cancel")).json()["status"] == "completed"
    assert await read(alice, queued["id"]) == done


async def test_an_approved_call_is_made_with_the_very_arguments(alice: httpx2.AsyncClient) -> None:
    queued = await execute(alice, (await asking(alice, "calculate"))["id"], "2 + 3")
    waiting = await reached(alice, queued["id"], "waiting")
    [asked] = waiting["approvals"]
    assert (asked["tool_call_id"], asked["tool"], asked["status"]) == ("call_1", "calculate", "pending")
    assert (await answer(alice, queued["id"], True)).json()["status"] == "queued"
    told = await events(alice, queued["id"])
    assert types(told) == [
        "execution.started",
        *ONE_STEP,
        "approval.requested",
        "approval.answered",
        *ONE_TOOL,
        *ONE_STEP,
        "execution.completed",
    ]
    called = next(event for event in told if event.type == "tool.called")
    assert called.data["arguments"] == asked["arguments"]
    assert (await read(alice, queued["id"]))["approvals"][0]["status"] == "approved"


async def test_a_denied_call_is_not_made_and_the_model_has_the_last_word(alice: httpx2.AsyncClient) -> None:
    queued = await execute(alice, (await asking(alice, "calculate"))["id"])
    await reached(alice, queued["id"], "waiting")
    await answer(alice, queued["id"], False, note="Not today")
    done = await ended(alice, queued["id"])
    told = await events(alice, queued["id"])
    assert (done["status"], "tool.called" in types(told)) == ("completed", False)
    failed = next(event for event in told if event.type == "tool.failed")
    assert failed.data["detail"] == "The call was denied: Not today"
    assert "Not today" in done["output"]


async def test_an_approval_is_answered_once_and_by_whom_it_concerns(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    queued = await execute(alice, (await asking(alice, "calculate"))["id"])
    await reached(alice, queued["id"], "waiting")
    assert (await answer(bob, queued["id"], True)).status_code == 404
    unknown = await alice.post(
        f"{EXECUTIONS}/{queued['id']}/approvals", json={"tool_call_id": "call_2", "approved": True}
    )
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (await answer(alice, queued["id"], True)).status_code == 200
    again = await answer(alice, queued["id"], False)
    assert (again.status_code, again.json()["code"]) == (409, "approval_closed")
    assert (await ended(alice, queued["id"]))["status"] == "completed"


async def test_deleting_a_person_deletes_all_that_was_kept(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database
) -> None:
    thinking = Thinking()
    play(app, thinking)
    made = await agent(alice, "calculate", "save_note")
    await execute(alice, (await agent(alice, subagent_ids=[made["id"]]))["id"])
    await thinking.begun.wait()
    assert (await alice.delete("/api/v1/users/me")).status_code == 204
    thinking.go_on.set()
    async with database.read() as session:
        for table in Base.metadata.sorted_tables:
            if table.name not in {"tools", "processes", "alembic_version"}:
                of_people = table.c.user_id.is_not(None) if table.name == "background_jobs" else true()
                counted = select(func.count()).select_from(table).where(of_people)
                assert await session.scalar(counted) == 0, table.name


async def test_old_executions_are_forgotten_where_a_setting_says_so(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    queued = await execute(alice, (await agent(alice))["id"])
    await ended(alice, queued["id"])

    async def left() -> list[int]:
        async with database.read() as session:
            rows = select(func.count(Execution.id)), select(func.count(ExecutionEvent.id))
            return [await session.scalar(row) or 0 for row in rows]

    await delete_old_executions(database, 0)
    await delete_old_executions(database, 1)
    assert await left() == [1, 4]
    await delete_old_executions(database, -1)  # deletes what ended before tomorrow
    assert await left() == [0, 0]


async def test_readiness_shows_whether_anybody_works(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    ready = await alice.get("/health/ready")
    assert (ready.status_code, ready.json()["checks"]["worker"]) == (200, "ok")


async def test_an_absent_worker_takes_no_server_out(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_IN_SERVER", "false")
    async with running(make_settings(), is_server=True) as app, client_for(app) as client:
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]["worker"]) == (200, "down")
