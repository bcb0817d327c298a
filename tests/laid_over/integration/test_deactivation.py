"""Tests that executions end when their owner's account is deactivated, whatever they are about to do."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update

from app.core.config import Settings
from app.core.database import Database
from app.core.jobs import jobs
from app.models.execution import FINAL, Approval, ApprovalStatus, Execution, ExecutionEvent, ExecutionStatus
from app.models.user import User
from tests.agents import Thinking, agent, asking, by_role, calls, delegates, ended, execute, play, reached, team
from tests.conftest import running

SUM = calls(("calculate", {"expression": "2 + 3"}))


@pytest.fixture
async def app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[FastAPI]:
    monkeypatch.setitem(jobs, "expire_approvals", replace(jobs["expire_approvals"], every=0.1))
    monkeypatch.setenv("WORKER_CONCURRENCY", "2")
    async with running(settings, is_server=True) as app:
        yield app


async def deactivate(database: Database, email: str = "alice@example.com") -> None:
    async with database.write() as session:
        await session.execute(update(User).where(User.email == email).values(is_active=False))


async def all_ended(database: Database) -> dict[UUID, tuple[ExecutionStatus, str | None]]:
    """Waits until all executions have ended, and returns the status and the code of each."""
    async with asyncio.timeout(20):
        while True:
            async with database.read() as session:
                rows = (await session.execute(select(Execution.id, Execution.status, Execution.code))).all()
            if all(row.status in FINAL for row in rows):
                return {row.id: (row.status, row.code) for row in rows}
            await asyncio.sleep(0.02)


async def test_what_runs_and_what_is_queued(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    thinking = Thinking()
    model = play(app, thinking)
    made = await agent(alice)
    for _ in range(4):  # two of which run
        await execute(alice, made["id"])
    await thinking.begun.wait()
    await deactivate(app.state.database)
    ends = await all_ended(app.state.database)
    assert list(ends.values()) == [(ExecutionStatus.failed, "account_inactive")] * 4
    assert len(model.prompts) <= 2
    async with app.state.database.read() as session:
        told = await session.scalars(select(ExecutionEvent.type).where(ExecutionEvent.type == "execution.failed"))
        assert len(told.all()) == 4


async def test_what_waits_for_an_answer(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = play(app, SUM, "done")
    await reached(alice, (await execute(alice, (await asking(alice, "calculate"))["id"]))["id"], "waiting")
    await deactivate(app.state.database)
    ends = await all_ended(app.state.database)
    assert list(ends.values()) == [(ExecutionStatus.failed, "account_inactive")]
    assert len(model.prompts) == 1
    async with app.state.database.read() as session:
        assert await session.scalar(select(Approval.status)) is ApprovalStatus.expired


async def test_what_subagents_do_and_who_waits_for_them(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    helping = Thinking()
    play(app, by_role(delegates, helping))
    await execute(alice, (await team(alice))["id"])
    await helping.begun.wait()
    await deactivate(app.state.database)
    ends = await all_ended(app.state.database)
    assert list(ends.values()) == [(ExecutionStatus.failed, "account_inactive")] * 2


async def test_others_go_on(app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    thinking = Thinking()
    play(app, thinking)
    await execute(alice, (await agent(alice))["id"])
    bobs = await execute(bob, (await agent(bob))["id"])
    await thinking.begun.wait()
    await deactivate(app.state.database)
    async with asyncio.timeout(20):
        while len(app.state.runner.runs) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    thinking.go_on.set()
    assert (await ended(bob, bobs["id"]))["status"] == "completed"
