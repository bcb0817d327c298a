"""Tests a rolling deployment from the last release: old and new processes share a database, and conversations and
executions in any state go on with either."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from lives import render
from releases import HERE, real
from servers import Project
from services import REDIS, database
from test_faults_agents import APART, FINAL, TOOLS, Person, assert_done_once, assert_goes_on_when_answered, person

pytestmark = [pytest.mark.deep, pytest.mark.faults, pytest.mark.slow]
EXECUTIONS = 6
SLOW, QUICK = {"DEMO_MODEL_DELAY": "0.5"}, {"DEMO_MODEL_DELAY": "0.02"}


def test_old_and_new_processes_share_executions_in_every_state(released: Path, tmp_path: Path) -> None:
    old, new = (render(released, tmp_path / version, version, {}) for version in (real()[-1], HERE))
    with database("postgresql") as url:
        shared = {"DATABASE_URL": url, "REDIS_URL": REDIS, "REDIS_PREFIX": f"rolling-{uuid4().hex}"}
        asyncio.run(_deploy(old, new, SECRET_KEY=uuid4().hex, **shared))


async def _deploy(old_folder: Path, new_folder: Path, **settings: str) -> None:
    async with AsyncExitStack() as stack:
        old = Project(old_folder, **settings)
        old_server = await stack.enter_async_context(old.serve(**APART))
        ada = await stack.enter_async_context(person(old_server.url))
        asking, agent, chief = await ada.agent("calculate", ask=True), await ada.agent(*TOOLS), await _chief(ada)
        async with old.work(**APART, **QUICK):
            ended = await ada.execute(agent, 1)
            await ada.reached(ended, "completed")
            waiting = await ada.execute(asking, 2)
            await ada.reached(waiting, "waiting")
        async with old.work(**APART, **SLOW) as killed:
            delegating = await ada.execute(chief, 2)
            await ada.reached(delegating, "waiting")
            ids = await ada.execute(agent, EXECUTIONS)
            await ada.reached(ids, "running")
            await killed.end(signal.SIGKILL)
        ids += await ada.execute(agent, EXECUTIONS)

        new = Project(new_folder, **settings)  # applies the migrations, while the old server goes on
        ids += await ada.execute(agent, EXECUTIONS)
        async with new.work(**APART, **QUICK):
            await assert_goes_on_when_answered(ada, *waiting)
            await _assert_done(ada, ids)
            assert await ada.reached(delegating, *FINAL) == {"completed": len(delegating)}

        new_server = await stack.enter_async_context(new.serve(**APART))
        there = Person(ada.client, new_server.url)
        async with old.work(**APART, **QUICK), new.work(**APART, **QUICK):
            mixed = await there.execute(agent, EXECUTIONS) + await ada.execute(agent, EXECUTIONS)
            await _assert_done(there, mixed)
        async with old.work(**APART, **SLOW) as killed:
            left = await there.execute(agent, EXECUTIONS)
            await there.reached(left, "running")
            await killed.end(signal.SIGKILL)
        async with new.work(**APART, **QUICK):
            await _assert_done(there, left)
        assert await there.notes() == len([*ended, *ids, *mixed, *left])


async def _chief(ada: Person) -> str:
    """Creates an agent that delegates to another one."""
    helper = await ada.agent()
    body = {"name": "Chief", "model_name": "demo", "subagent_ids": [helper]}
    return (await ada.ask("POST", "agents", json=body))["id"]


async def _assert_done(ada: Person, ids: list[str]) -> None:
    assert await ada.reached(ids, *FINAL) == {"completed": len(ids)}
    await assert_done_once(ada, ids)


def test_old_and_new_servers_share_conversations(released: Path, tmp_path: Path) -> None:
    """Continues one conversation by turns, edits it in the new version, and goes on with it in the old one."""
    old, new = (render(released, tmp_path / version, version, {}) for version in (real()[-1], HERE))
    with database("postgresql") as url:
        shared = {"DATABASE_URL": url, "REDIS_URL": REDIS, "REDIS_PREFIX": f"rolling-{uuid4().hex}"}
        asyncio.run(_talk(old, new, SECRET_KEY=uuid4().hex, DEMO_MODEL_DELAY="0", **shared))


async def _talk(old_folder: Path, new_folder: Path, **settings: str) -> None:
    async with AsyncExitStack() as stack:
        old = Project(old_folder, **settings)
        old_server = await stack.enter_async_context(old.serve())
        before = await stack.enter_async_context(person(old_server.url))
        id = (await _send(before, "one"))["conversation_id"]
        new = Project(new_folder, **settings)  # applies the migrations, while the old server goes on
        new_server = await stack.enter_async_context(new.serve())
        after = Person(before.client, new_server.url)
        await _send(before, "two", conversation_id=id)
        await _send(after, "three", conversation_id=id)
        other = (await _send(before, "another conversation"))["conversation_id"]
        assert await _asked(after, id) == ["one", "two", "three"]
        listed = await after.ask("GET", "chat/conversations")
        assert [conversation["id"] for conversation in listed["items"]] == [other, id]

        shown = await after.ask("GET", f"chat/conversations/{id}/messages")
        await _send(after, "zwei", replaces=shown["items"][2]["id"])
        assert await _asked(after, id) == ["one", "zwei"]
        await _send(before, "four", conversation_id=id)
        await _send(after, "five", conversation_id=id)
        assert await _asked(after, id) == ["one", "zwei", "four", "five"]
        assert await _asked(before, id) == ["one", "two", "three", "zwei", "four", "five"]
        left = f"chat/conversations/{id}/messages?leaf={shown['items'][-1]['id']}"
        assert [message["content"] for message in (await after.ask("GET", left))["items"]][::2] == [
            "one",
            "two",
            "three",
        ]


async def _send(person: Person, content: str, **more: str) -> dict[str, Any]:
    return await person.ask("POST", "chat/messages", json={"content": content, **more})


async def _asked(person: Person, id: str) -> list[str]:
    """Returns what was asked in the branch of a conversation that is shown."""
    shown = await person.ask("GET", f"chat/conversations/{id}/messages")
    return [message["content"] for message in shown["items"] if message["role"] == "user"]
