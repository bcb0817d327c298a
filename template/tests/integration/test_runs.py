"""Tests how runs of executions proceed and end, with a scripted model."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.core.config import Settings
from app.core.database import Database
from app.models.base import now
from app.models.execution import Approval, Execution, ExecutionStatus
from app.services.agents.approvals import expire
from app.services.ai import AssistantMessage, ModelFailure, ToolResult, UserMessage
from tests.agents import (
    EXECUTIONS,
    Thinking,
    agent,
    answer,
    asking,
    calls,
    ended,
    events,
    execute,
    play,
    reached,
    returned,
    types,
)
from tests.conftest import MakeSettings, client_for, running, sign_in

SUM = calls(("calculate", {"expression": "2 + 3"}))


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


async def run(client: httpx2.AsyncClient, *tools: str, **more: Any) -> dict[str, Any]:
    return await ended(client, (await execute(client, (await agent(client, *tools, **more))["id"]))["id"])


async def test_a_model_is_told_what_its_tools_returned(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, SUM, "It is 5.")
    done = await run(alice, "calculate")
    assert (done["status"], done["output"]) == ("completed", "It is 5.")
    asked, answered, told = model.prompts[1].messages
    assert asked == UserMessage("go")
    assert isinstance(answered, AssistantMessage)
    assert answered.tool_calls == SUM.tool_calls
    assert told == ToolResult("id-0", "calculate", "5")
    assert done["usage"] == {"steps": 2, "input_tokens": 20, "output_tokens": 10, "cost": None}


async def test_calls_at_once_are_made_one_after_the_other(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(("calculate", {"expression": "1 + 1"}), ("calculate", {"expression": "2 + 2"})), "done")
    done = await run(alice, "calculate")
    told = await events(alice, done["id"])
    made = [(event.type, event.data["tool_call_id"]) for event in told if event.type.startswith("tool.")]
    assert made == [
        ("tool.called", "call_1"),
        ("tool.returned", "call_1"),
        ("tool.called", "call_2"),
        ("tool.returned", "call_2"),
    ]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (("nothing", {}), "There is no tool nothing."),
        (("calculate", {"expression": 1}), "The arguments are refused"),
        (("calculate", {"expression": "1 / 0"}), "zero"),
    ],
    ids=["an unknown tool", "bad arguments", "a failure"],
)
async def test_a_tool_that_fails_is_a_sentence_to_the_model(
    app: FastAPI, alice: httpx2.AsyncClient, call: tuple[str, dict[str, Any]], sentence: str
) -> None:
    model = play(app, calls(call), "I see.")
    done = await run(alice, "calculate")
    [told] = returned(model.prompts[1])
    assert (done["output"], sentence in told) == ("I see.", True), told
    assert "tool.failed" in types(await events(alice, done["id"]))


async def test_a_tool_that_is_denied_is_never_called(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, SUM, "I see.")
    made = await agent(alice, "calculate")
    path = f"/api/v1/agents/{made['id']}"
    await alice.patch(path, json={"tool_policies": {made["tools"][0]["id"]: "deny"}})
    done = await ended(alice, (await execute(alice, made["id"]))["id"])
    assert returned(model.prompts[1]) == ["The tool calculate may not be used."]
    assert "tool.called" not in types(await events(alice, done["id"]))


@pytest.mark.parametrize(
    ("failure", "code", "detail"),
    [
        (ModelFailure("model_overloaded", "The model is overloaded."), "model_overloaded", "The model is overloaded."),
        (ValueError("a secret"), "internal", "The execution failed inside this service."),
    ],
    ids=["of the model", "of the service"],
)
async def test_what_fails_ends_the_execution_with_a_code(
    app: FastAPI, alice: httpx2.AsyncClient, failure: Exception, code: str, detail: str
) -> None:
    play(app, failure)
    done = await run(alice)
    assert (done["status"], done["error"]) == ("failed", {"code": code, "detail": detail})
    assert done["usage"]["input_tokens"] == 10  # what was used before the failure is counted
    told = (await events(alice, done["id"]))[-1]
    assert (told.type, told.data["code"], told.data["detail"]) == ("execution.failed", code, detail)


@pytest.mark.parametrize(
    ("name", "limit", "sentence"),
    [
        ("EXECUTION_MAX_STEPS", "2", "its 2 steps"),
        ("EXECUTION_MAX_TOKENS", "30", "its 30 tokens"),
        ("EXECUTION_MAX_SECONDS", "0.3", "after 0.3 s of work"),
    ],
)
async def test_limits_end_an_execution(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, name: str, limit: str, sentence: str
) -> None:
    monkeypatch.setenv(name, limit)
    async with running(make_settings(), is_server=True) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        play(app, SUM, SUM, Thinking())
        done = await run(alice, "calculate")
    assert (done["status"], done["error"]["code"]) == ("failed", "limit_reached")
    assert sentence in done["error"]["detail"]


async def test_a_budget_that_is_used_up_ends_an_execution(make_settings: MakeSettings) -> None:
    settings = make_settings(tokens_per_day=9_000)
    async with running(settings, is_server=True) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        play(app, *[SUM] * 60)
        done = await run(alice, "calculate")
        assert (done["status"], done["error"]["code"]) == ("failed", "budget_exhausted")
        report = (await alice.get("/api/v1/usage")).json()
    [day] = report["days"]
    assert (day["feature"], day["requests"]) == ("agents", done["usage"]["steps"])
    assert int(report["budgets"][0]["used"]) == day["input_tokens"] + day["output_tokens"]  # nothing stays reserved


async def test_an_approval_that_nobody_gives_expires(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database
) -> None:
    model = play(app, SUM, "I see.")
    queued = await execute(alice, (await asking(alice, "calculate"))["id"])
    await reached(alice, queued["id"], "waiting")
    async with database.write() as session:
        await session.execute(update(Approval).values(expires_at=now() - timedelta(seconds=1)))
    late = await answer(alice, queued["id"], True)
    assert (late.status_code, late.json()["code"]) == (409, "approval_closed")
    await expire(app.state.database, app.state.notifier)
    done = await ended(alice, queued["id"])
    assert returned(model.prompts[1]) == ["Nobody approved this call in time."]
    answered = next(event for event in await events(alice, done["id"]) if event.type == "approval.answered")
    assert (answered.data["approved"], answered.data["expired"]) == (False, True)


async def test_one_that_waits_can_be_cancelled_and_is_asked_no_more(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, SUM)
    queued = await execute(alice, (await asking(alice, "calculate"))["id"])
    await reached(alice, queued["id"], "waiting")
    assert (await alice.post(f"{EXECUTIONS}/{queued['id']}/cancel")).json()["status"] == "cancelled"
    late = await answer(alice, queued["id"], True)
    assert (late.status_code, late.json()["code"]) == (409, "approval_closed")
    assert "its execution ended" in late.json()["detail"]
    assert (await events(alice, queued["id"]))[-1].type == "execution.cancelled"


async def test_a_model_that_is_asked_hears_no_more_once_it_is_cancelled(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database
) -> None:
    thinking = Thinking(SUM)
    model = play(app, thinking)
    queued = await execute(alice, (await agent(alice, "calculate"))["id"])
    await thinking.begun.wait()
    async with database.write() as session:  # as another process does, which cannot notify this one
        row = await session.get(Execution, UUID(queued["id"]))
        assert row
        row.status, row.run_id, row.process_id = ExecutionStatus.cancelled, None, None
    async with asyncio.timeout(2):
        while app.state.runner.runs:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    thinking.go_on.set()
    assert len(model.prompts) == 1
    usage = (await alice.get("/api/v1/usage")).json()["days"]
    assert [day["input_tokens"] for day in usage] == [10]  # the tokens that were used before the cancellation
