"""Tests runs that continue after a process has died, or while the database fails."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.core.config import Settings
from app.models.execution import Execution, ExecutionStatus
from app.repositories import process
from app.services.agents.run import MAX_CONSECUTIVE_CRASHES
from app.services.agents.toolbox import Toolbox, ToolContext
from tests.agents import (
    Thinking,
    agent,
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


async def died(app: FastAPI, execution_id: str) -> None:
    """Simulates that the process that ran it was killed, and that this one has lived long enough to detect it."""
    dead = {"status": ExecutionStatus.running, "process_id": uuid4(), "run_id": uuid4()}
    async with app.state.database.write() as session:
        await session.execute(update(Execution).where(Execution.id == UUID(execution_id)).values(**dead))
    app.state.heartbeat._steady_since -= process.DEAD_SECONDS
    app.state.worker.wake()


async def test_a_run_whose_claim_was_stored_and_not_answered_is_begun_again(
    app: FastAPI, alice: httpx2.AsyncClient
) -> None:
    """Simulates a connection that broke just after the commit: this process owns the run, but does not know it."""
    thinking = Thinking()
    play(app, thinking, "done")
    queued = await execute(alice, (await agent(alice))["id"])
    await thinking.begun.wait()
    async with app.state.database.write() as session:
        of = Execution.id == UUID(queued["id"])
        await session.execute(
            update(Execution).where(of).values(run_id=uuid4(), consecutive_crashes=MAX_CONSECUTIVE_CRASHES)
        )
    async with asyncio.timeout(20):
        assert (await ended(alice, queued["id"]))["output"] == "done"


async def test_a_run_goes_on_where_a_dead_one_stopped(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    thinking = Thinking()
    model = play(app, SUM, thinking, "It is 5.")
    queued = await execute(alice, (await agent(alice, "calculate"))["id"])
    await thinking.begun.wait()
    await died(app, queued["id"])
    done = await ended(alice, queued["id"])
    assert (done["status"], done["output"]) == ("completed", "It is 5.")
    told = types(await events(alice, queued["id"]))
    assert told.count("tool.called") == told.count("tool.returned") == 1
    assert told.count("model.completed") == 2
    assert [returned(prompt) for prompt in model.prompts] == [[], ["5"], ["5"]]


async def test_a_call_that_is_made_again_has_the_same_key_and_row_id(
    app: FastAPI, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts, began = list[ToolContext](), asyncio.Event()

    async def call(_toolbox: Toolbox, _name: str, context: ToolContext, _arguments: str) -> str:
        contexts.append(context)
        if len(contexts) == 1:
            began.set()
            await asyncio.Event().wait()
        return "5"

    monkeypatch.setattr(Toolbox, "call", call)
    play(app, SUM, SUM, "It is 5.")
    before = uuid7()
    queued = await execute(alice, (await agent(alice, "calculate"))["id"])
    await began.wait()
    await died(app, queued["id"])
    await ended(alice, queued["id"])
    first, again, second = contexts
    assert (first.row_id, first.idempotency_key) == (again.row_id, again.idempotency_key)
    assert before < again.row_id < second.row_id < uuid7()
    assert second.idempotency_key != again.idempotency_key


async def test_what_kills_process_after_process_is_given_up(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    deaths = [Thinking() for _ in range(MAX_CONSECUTIVE_CRASHES + 1)]
    play(app, SUM, *deaths, "never")
    queued = await execute(alice, (await agent(alice, "calculate"))["id"])
    for thinking in deaths:
        await thinking.begun.wait()
        await died(app, queued["id"])
    done = await ended(alice, queued["id"])
    assert (done["status"], done["error"]["code"]) == ("failed", "limit_reached")
    assert done["error"]["detail"] == "6 processes in a row died while they ran this execution."
    assert types(await events(alice, queued["id"])).count("model.started") == 1 + len(deaths)


async def test_shutting_down_leaves_the_rest_to_others(settings: Settings) -> None:
    async with running(settings, is_server=True) as first, client_for(first) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        thinking = Thinking(SUM)
        play(first, thinking)
        queued = await execute(alice, (await agent(alice, "calculate"))["id"])
        await thinking.begun.wait()
        headers = dict(alice.headers)
        asyncio.get_running_loop().call_later(0.05, thinking.go_on.set)
    async with running(settings, is_server=True) as second, client_for(second, **headers) as alice:
        play(second, "It is 5.")
        done = await ended(alice, queued["id"])
        told = types(await events(alice, queued["id"]))
    assert (done["output"], told.count("model.started"), told.count("tool.returned")) == ("It is 5.", 2, 1)


async def test_a_database_that_fails_for_a_while_loses_and_repeats_nothing(
    app: FastAPI, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails commits before they happen, and after, so that something is stored and only the answer is lost."""
    commit, failures = AsyncSession.commit, ["before", "after"] * 3

    async def commits(session: AsyncSession) -> None:
        if not (failures and app.state.runner.runs):
            return await commit(session)
        when = failures.pop()
        if when == "after":
            await commit(session)
        raise OperationalError("COMMIT", {}, Exception("connection lost"))

    play(app, SUM, SUM, "done")
    made = await agent(alice, "calculate")
    queued = await execute(alice, made["id"])
    monkeypatch.setattr(AsyncSession, "commit", commits)
    done = await ended(alice, queued["id"])
    told = await events(alice, queued["id"])
    assert (done["status"], types(told).count("tool.called")) == ("completed", 2)
    assert [event.id for event in told if event.type != "model.delta"] == list(range(1, len(types(told)) + 1))


async def test_what_is_claimed_while_a_process_stops_is_left_to_others(settings: Settings) -> None:
    """Stops the process while its claim is under way."""
    async with running(settings, is_server=True) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        play(app, Thinking())
        made = await agent(alice)
        runner, claim = app.state.runner, app.state.runner._claim

        async def claim_and_stop(id: UUID) -> Any:
            claimed = await claim(id)
            app.state.shutdown.request()
            return claimed

        runner._claim = claim_and_stop
        queued = await execute(alice, made["id"])
    async with running(settings, is_server=True) as second, client_for(second, **dict(alice.headers)) as alice:
        assert not runner.runs
        play(second, "done")
        assert (await ended(alice, queued["id"]))["output"] == "done"


async def test_a_process_stops_although_its_database_is_gone(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: AsyncSession) -> None:
        raise OperationalError("COMMIT", {}, Exception("connection lost"))

    monkeypatch.setattr("app.core.retries.PAUSES", (0.01,))
    async with asyncio.timeout(10):
        async with running(make_settings(shutdown_grace_seconds=0), is_server=True) as app, client_for(app) as alice:
            alice.headers.update(await sign_in(alice, "alice@example.com"))
            thinking = Thinking()
            play(app, thinking)
            await execute(alice, (await agent(alice))["id"])
            await thinking.begun.wait()
            monkeypatch.setattr(AsyncSession, "commit", fails)
        monkeypatch.undo()


async def test_whoever_follows_is_let_go_when_the_process_stops(settings: Settings) -> None:
    """Ends streams without a final event: the client reconnects to another process with the last event's id."""
    async with running(settings, is_server=True) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        queued = await execute(alice, (await asking(alice, "calculate"))["id"])
        await reached(alice, queued["id"], "waiting")
        following = asyncio.create_task(events(alice, queued["id"]))
        asyncio.get_running_loop().call_later(0.1, app.state.shutdown.request)
        async with asyncio.timeout(5):
            assert types(await following)[-1] == "approval.requested"
