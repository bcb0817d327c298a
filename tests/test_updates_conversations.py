"""Tests that people go on with what they had in a project of 0.1: conversations, agents, approvals, keys and usage."""

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from lives import SECRET_KEY, Life
from processes import succeed
from releases import HERE, real
from servers import Project
from services import database, databases
from test_faults_agents import Person, person
from test_updates import beginning

pytestmark = [pytest.mark.deep, pytest.mark.slow, pytest.mark.updates]

OLD = [version for version in real() if version.startswith("v0.1.")]
EXCHANGES = 60
"""Counts the exchanges of the longest conversation, which is more than a page."""
QUICK = {"DEMO_MODEL_DELAY": "0", "EXECUTIONS_PER_MINUTE": "0", "MAX_CONCURRENT_EXECUTIONS": "0"}
NO_WORKER = {**QUICK, "WORKER_IN_SERVER": "false"}
PATHS = ("users/me", "chat/conversations", "agents", "executions", "usage", "auth/api-keys")
Told = dict[str, Any]


@pytest.mark.parametrize("kind", databases())
@pytest.mark.parametrize("old", OLD)
def test_people_go_on_with_what_they_had(old: str, kind: str, released: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(database(kind))
        life = beginning(released, tmp_path / "project", [url])(old, {"features": ["chat", "agents"]})
        key, before = asyncio.run(live(Project(life.folder, DATABASE_URL=url, SECRET_KEY=SECRET_KEY)))
        update(life)
        asyncio.run(go_on(Project(life.folder, DATABASE_URL=url, SECRET_KEY=SECRET_KEY), key, before))


def update(life: Life) -> None:
    succeed("copier", "update", "--defaults", "--vcs-ref", HERE, cwd=life.folder)
    life.finish()
    life.check_files()


async def live(project: Project) -> tuple[str, Told]:
    """Makes data of all kinds with the old project's server. Returns an API key and what can be read."""
    async with project.serve(**QUICK) as server, person(server.url) as ada:
        long = (await send(ada, "How tall is a heron 0?"))["conversation_id"]
        for number in range(1, EXCHANGES):
            await send(ada, f"How tall is a heron {number}?", conversation_id=long)
        reply = await send(ada, "What does an egret eat?")
        rating = {"rating": "up", "comment": "Clear."}
        await ada.ask("PUT", f"chat/messages/{reply['id']}/feedback", json=rating)
        agent = await ada.agent("calculate", "save_note", ask=True)
        done, waits = await ada.execute(agent, 2)
        await ada.reached([done, waits], "waiting")
        while (await ada.reached([done], "waiting", "completed"))["waiting"]:
            await approve(ada, done)
            await ada.reached([done], "waiting", "completed")
        scopes = {"name": "Script", "scopes": ["chat", "agents", "read"]}
        key = (await ada.ask("POST", "auth/api-keys", json=scopes))["key"]
    async with project.serve(**NO_WORKER) as server, person(server.url) as ada:
        await ada.execute(agent)
        return key, await read_all(ada)


async def send(ada: Person, content: str, **more: str) -> Told:
    reply = await ada.ask("POST", "chat/messages", json={"content": content, **more})
    assert reply["status"] == "completed"
    return reply


async def approve(ada: Person, execution_id: str) -> None:
    """Approves the call that waits, and waits until the execution waits for another one or has ended."""
    asked = pending(await ada.ask("GET", f"executions/{execution_id}"))
    for approval in asked:
        body = {"tool_call_id": approval["tool_call_id"], "approved": True}
        await ada.ask("POST", f"executions/{execution_id}/approvals", json=body)
    async with asyncio.timeout(60):
        while True:
            execution = await ada.ask("GET", f"executions/{execution_id}")
            now = pending(execution)
            if execution["status"] == "completed" or (now and now != asked):
                return
            await asyncio.sleep(0.1)


def pending(execution: Told) -> list[Told]:
    return [approval for approval in execution["approvals"] if approval["status"] == "pending"]


async def approve_all(ada: Person, execution_id: str) -> None:
    while (await ada.ask("GET", f"executions/{execution_id}"))["status"] != "completed":
        await approve(ada, execution_id)


async def read_all(ada: Person) -> Told:
    """Returns what a person reads of everything that is theirs."""
    told: Told = {path: await ada.ask("GET", path) for path in PATHS}
    for agent in told["agents"]["items"]:  # a release may describe its tools in other words
        agent["tools"] = [(tool["id"], tool["name"]) for tool in agent["tools"]]
    for conversation in told["chat/conversations"]["items"]:
        told[f"messages of {conversation['id']}"] = await messages(ada, conversation["id"])
    for execution in told["executions"]["items"]:
        path = f"executions/{execution['id']}"
        told[path] = await ada.ask("GET", path)
        if execution["status"] == "completed":
            told[f"{path}/events"] = await ada.events(execution["id"])
    answer = await ada.client.get(f"{ada.url}/api/v1/users/me/export")
    exported = json.loads(answer.raise_for_status().text)
    del exported["sessions"], exported["refresh_tokens"]  # to read is to sign in once more
    told["users/me/export"] = {name: sorted(rows, key=str) for name, rows in exported.items()}
    return told


async def messages(ada: Person, conversation_id: str, **params: str) -> list[Told]:
    """Returns all messages of a branch, oldest first."""
    path, found = f"chat/conversations/{conversation_id}/messages", list[Told]()
    while True:
        page = await ada.ask("GET", path, params={"limit": "100", **params})
        found = page["items"] + found
        if page["next_cursor"] is None:
            return found
        params = {**params, "cursor": page["next_cursor"]}


def assert_kept(old: Any, new: Any, path: str = "") -> None:
    """Asserts that all that was there is there, in the same order; objects may have more fields."""
    if isinstance(old, dict):
        for name, value in old.items():
            assert name in new, f"{path}.{name} is gone"
            assert_kept(value, new[name], f"{path}.{name}")
    elif isinstance(old, list):
        assert len(old) == len(new), path
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            assert_kept(one, other, f"{path}[{number}]")
    else:
        assert old == new, path


async def go_on(project: Project, key: str, before: Told) -> None:
    """Reads with the updated project's server, which makes nothing yet, and then does what is new."""
    async with project.serve(**NO_WORKER) as server, person(server.url) as ada:
        assert_kept(before, await read_all(ada))
        ada.client.headers["Authorization"] = f"Bearer {key}"
        assert_kept(before["chat/conversations"], await ada.ask("GET", "chat/conversations"))
    async with project.serve(**QUICK) as server, person(server.url) as ada:
        short, long = [conversation["id"] for conversation in before["chat/conversations"]["items"]]
        await assert_found(ada, "heron 59", long)
        await assert_found(ada, "EGRET eat", short)
        await assert_branches(ada, long)
        [agent], queued = before["agents"]["items"], before["executions"]["items"][0]["id"]
        [waits] = [one["id"] for one in before["executions"]["items"] if one["status"] == "waiting"]
        for execution in (waits, queued):
            await approve_all(ada, execution)
        assert await ada.notes() == 3
        await talk(ada, short, agent["id"])
        assert await ada.notes() == 4
        assert_more_is_used(before["usage"], await ada.ask("GET", "usage"))


async def assert_found(ada: Person, query: str, conversation_id: str) -> None:
    found = (await ada.ask("GET", "chat/conversations", params={"query": query}))["items"]
    assert [conversation["id"] for conversation in found] == [conversation_id]


async def assert_branches(ada: Person, conversation_id: str) -> None:
    """Edits and regenerates in the middle of an old conversation, whose first branch stays as it was."""
    old = await messages(ada, conversation_id)
    assert len(old) == 2 * EXCHANGES
    assert [one["parent_id"] for one in old] == [None, *(one["id"] for one in old[:-1])]
    assert all(one["siblings"] == [one["id"]] for one in old)
    edited = await send(ada, "How tall is a stork?", replaces=old[10]["id"])
    new = await messages(ada, conversation_id)
    assert [one["id"] for one in new[:10]] == [one["id"] for one in old[:10]]
    assert [one["content"] for one in new[10:]] == ["How tall is a stork?", edited["content"]]
    assert new[10]["siblings"] == [old[10]["id"], new[10]["id"]]
    again = await ada.ask("POST", f"chat/messages/{old[5]['id']}/regenerate", json={})
    assert (await messages(ada, conversation_id))[-1]["siblings"] == [old[5]["id"], again["id"]]
    for leaf in (old[-1]["id"], old[-2]["id"]):
        branch = await messages(ada, conversation_id, leaf=leaf)
        assert [(one["id"], one["content"]) for one in branch] == [(one["id"], one["content"]) for one in old]


async def talk(ada: Person, conversation_id: str, agent_id: str) -> None:
    """Asks an old agent in an old conversation."""
    body = {"content": "And 2 + 3?", "conversation_id": conversation_id, "agent_id": agent_id}
    reply = await ada.ask("POST", "chat/messages", json=body)
    assert reply["status"] == "pending"
    await approve_all(ada, reply["execution_id"])
    *_, question, answer = await messages(ada, conversation_id)
    assert (question["content"], answer["status"]) == ("And 2 + 3?", "completed")
    assert "calculate returned: “5”" in answer["content"]


def assert_more_is_used(before: Told, after: Told) -> None:
    def tokens(report: Told) -> int:
        return sum(row["input_tokens"] + row["output_tokens"] for row in report["days"])

    assert tokens(after) > tokens(before) > 0
