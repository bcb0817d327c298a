"""Tests executions that several processes or requests compete for, and what must not harm others."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import exc, func, select, text, update

from app.core.config import Settings
from app.core.database import Database
from app.models.base import now
from app.models.execution import Approval, Execution, ExecutionStatus
from app.repositories import process
from app.repositories.execution_queue import RunRepository
from app.repositories.job import JobRepository, QueueSlice
from app.services.agents.approvals import expire
from app.services.agents.runner import QUEUE
from app.services.agents.toolbox import Toolbox, ToolContext
from app.services.processes import heartbeat
from tests.agents import (
    AGENTS,
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
    stored,
    team,
    types,
)
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.counting import listening

SUM = calls(("calculate", {"expression": "2 + 3"}))
TIMES = 8
"""Repeats each race, since chance decides which side wins."""
ENDS = {"execution.completed", "execution.failed", "execution.cancelled"}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DEAD_SECONDS", 1.0)
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.1)


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


async def test_what_cannot_be_read_any_more_ends_alone(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database
) -> None:
    thinking = Thinking()
    play(app, thinking, "done")
    made = await agent(alice)
    queued = await execute(alice, made["id"])
    await thinking.begun.wait()
    dead = {"process_id": uuid4(), "run_id": uuid4(), "configuration": {"name": "of another time", "limits": {}}}
    async with database.write() as session:
        await session.execute(update(Execution).values(**dead))
    async with asyncio.timeout(10):
        while (await status_of(database, queued["id"])) is not ExecutionStatus.failed:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (await ended(alice, (await execute(alice, made["id"]))["id"]))["output"] == "done"


async def test_a_reservation_that_fails_for_a_moment_repeats_no_tool(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails before a tool's result is stored, which happens only with the next request to the model."""
    called, failed, call = list[str](), list[str](), Toolbox.call

    async def count(toolbox: Toolbox, name: str, context: ToolContext, arguments: str) -> str:
        called.append(name)
        return await call(toolbox, name, context, arguments)

    def fail_once(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if called and not failed and statement.startswith("INSERT INTO usage_reservations"):
            failed.append(statement)
            raise exc.TimeoutError("no connection is free")

    monkeypatch.setattr(Toolbox, "call", count)
    async with running(make_settings(tokens_per_day=1_000_000), is_server=True) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        play(app, SUM, "done")
        made = await agent(alice, "calculate")
        with listening(app, before_cursor_execute=fail_once):
            assert (await ended(alice, (await execute(alice, made["id"]))["id"]))["output"] == "done"
    assert (len(failed), called) == (1, ["calculate"])


async def status_of(database: Database, execution_id: str) -> ExecutionStatus | None:
    async with database.read() as session:
        return await session.scalar(select(Execution.status).where(Execution.id == UUID(execution_id)))


async def test_what_no_database_stores_is_left_out(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    bad = "a\0b\ud800c"
    task = json.dumps({"task": "help\0"})
    model = play(app, calls((bad, {}), ("ask_the_helper", json.loads(task)), text=bad), bad)
    chief = await team(alice)
    done = await ended(alice, (await execute(alice, chief["id"]))["id"])
    assert (done["status"], done["output"]) == ("completed", "ab?c")
    assert returned(model.prompts[1])[0] == "There is no tool ab?c."
    assert returned(model.prompts[1])[1].startswith("The arguments are refused")
    assert types(await events(alice, done["id"]))[-1] == "execution.completed"


async def test_two_workers_that_claim_at_once_share(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_IN_SERVER", "false")
    async with running(make_settings(), is_server=True) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        made = await agent(alice)
        queued = [UUID((await execute(alice, made["id"]))["id"]) for _ in range(TIMES)]

        async with app.state.database.read() as session:
            jobs = await JobRepository(session).list_queued([QueueSlice(QUEUE, ["run_execution"], (), TIMES)])

        async def claim() -> list[UUID]:
            async with app.state.database.write() as session:
                claimed = await JobRepository(session).claim([job.id for job in jobs], uuid4())
                return [UUID(job.arguments["execution_id"]) for job in claimed]

        claimed = await asyncio.gather(*(claim() for _ in range(4)))
    assert sorted(id for ids in claimed for id in ids) == sorted(queued)


async def test_many_that_are_asked_for_at_once_stay_within_their_limit(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_IN_SERVER", "false")  # so that none of them ends
    monkeypatch.setenv("MAX_CONCURRENT_EXECUTIONS", "3")
    async with running(make_settings(), is_server=True) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        path = f"{AGENTS}/{(await agent(alice))['id']}/execute"
        asking = (alice.post(path, json={"input": "go"}) for _ in range(3 * TIMES))
        answers = [answer.status_code for answer in await asyncio.gather(*asking)]
        assert (answers.count(202), answers.count(429)) == (3, 3 * TIMES - 3)


async def test_two_agents_cannot_delegate_to_each_other_at_once(alice: httpx2.AsyncClient) -> None:
    for _ in range(TIMES):
        one, other = (await agent(alice))["id"], (await agent(alice))["id"]
        answers = await asyncio.gather(
            alice.patch(f"{AGENTS}/{one}", json={"subagent_ids": [other]}),
            alice.patch(f"{AGENTS}/{other}", json={"subagent_ids": [one]}),
        )
        assert sorted(answer.status_code for answer in answers) == [200, 422]


async def assert_told_once(client: httpx2.AsyncClient, execution_id: str) -> str:
    """Returns the final status, after asserting that the last event, and no other, reports it."""
    done = await ended(client, execution_id)
    told = stored(await events(client, execution_id))
    assert [event.id for event in told] == list(range(1, len(told) + 1))
    assert [event.type for event in told if event.type in ENDS] == [f"execution.{done['status']}"]
    assert told[-1].type == f"execution.{done['status']}"
    return done["status"]


async def test_cancelling_what_completes_has_one_end(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    made = await agent(alice)
    for number in range(TIMES):
        thinking = Thinking()
        play(app, thinking)
        queued = await execute(alice, made["id"])
        await thinking.begun.wait()
        thinking.go_on.set()
        await asyncio.sleep(number * 0.002)
        cancelled = (await alice.post(f"{EXECUTIONS}/{queued['id']}/cancel")).json()
        assert await assert_told_once(alice, queued["id"]) == cancelled["status"]


async def test_an_approval_has_one_answer(app: FastAPI, alice: httpx2.AsyncClient, database: Database) -> None:
    """Approves and denies a call at once, while it expires and its execution is cancelled."""
    play(app, by_returned)
    made = await asking(alice, "calculate")
    for _ in range(TIMES):
        queued = await execute(alice, made["id"])
        await reached(alice, queued["id"], "waiting")
        soon = now() + timedelta(seconds=0.01)
        async with database.write() as session:
            of = Approval.execution_id == UUID(queued["id"])
            await session.execute(update(Approval).where(of).values(expires_at=soon))
        await asyncio.sleep(0.005)
        approved, denied, cancelled, _ = await asyncio.gather(
            answer(alice, queued["id"], True),
            answer(alice, queued["id"], False),
            alice.post(f"{EXECUTIONS}/{queued['id']}/cancel"),
            expire(app.state.database, app.state.notifier),
        )
        assert sorted({approved.status_code, denied.status_code, cancelled.status_code} - {200, 409}) == []
        await assert_told_once(alice, queued["id"])
        told = types(await events(alice, queued["id"]))
        assert told.count("approval.answered") <= 1
        assert told.count("tool.called") <= (approved.status_code == 200)


def by_returned(prompt: Any) -> Any:
    return "done" if returned(prompt) else SUM


async def test_cancelling_a_parent_whose_child_completes_ends_both(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    chief = await team(alice)
    for number in range(TIMES):
        thinking = Thinking()
        play(app, by_role(delegates, thinking))
        queued = await execute(alice, chief["id"])
        await thinking.begun.wait()
        thinking.go_on.set()
        await asyncio.sleep(number * 0.002)
        answered = await alice.post(f"{EXECUTIONS}/{queued['id']}/cancel")
        assert answered.status_code == 200
        assert await assert_told_once(alice, queued["id"]) == answered.json()["status"]
        told = await events(alice, queued["id"])
        [child] = [event.data["execution"] for event in told if event.type == "subagent.started"]
        await assert_told_once(alice, child)


async def test_an_approval_that_is_deleted_before_it_expires_is_no_error(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(app, SUM)
    queued = await execute(alice, (await asking(alice, "calculate"))["id"])
    await reached(alice, queued["id"], "waiting")
    async with database.write() as session:
        await session.execute(update(Approval).values(expires_at=now()))
    overdue = RunRepository.overdue

    async def then_deleted(runs: RunRepository, limit: int) -> Any:
        found = await overdue(runs, limit)
        assert (await alice.delete("/api/v1/users/me")).status_code == 204
        return found

    monkeypatch.setattr(RunRepository, "overdue", then_deleted)
    await expire(app.state.database, app.state.notifier)
    assert await status_of(database, queued["id"]) is None


async def test_a_person_is_deleted_while_a_run_writes(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asserts that neither fails for the other, although both lock the same rows."""
    play(app, "done")
    made, advance, deleting = await agent(alice), RunRepository.advance, list[asyncio.Task[httpx2.Response]]()

    async def while_deleted(runs: RunRepository, *values: Any) -> bool | None:
        advanced = await advance(runs, *values)
        if database.url.get_backend_name() == "postgresql" and "finished_at" in values[-1]:  # before usage is stored
            deleting.append(asyncio.create_task(alice.delete("/api/v1/users/me")))
            await someone_waits(database)
        return advanced

    monkeypatch.setattr(RunRepository, "advance", while_deleted)
    await execute(alice, made["id"])
    async with asyncio.timeout(10):
        while (not deleting and database.url.get_backend_name() == "postgresql") or app.state.runner.runs:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    answers = await asyncio.gather(*deleting)
    assert [answer.status_code for answer in answers] in ([204], [])
    if not answers:
        assert (await alice.delete("/api/v1/users/me")).status_code == 204
    async with database.read() as session:
        assert await session.scalar(select(func.count()).select_from(Execution)) == 0


async def someone_waits(database: Database) -> None:
    waits = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(5), database.read() as session:
        while not await session.scalar(waits):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
