"""Tests what superusers see of everyone's executions, over HTTP and by a command."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from app.services.ai import ModelFailure
from tests.agents import agent, asking, ended, execute, play, reached
from tests.conftest import running
from tests.integration.conftest import Project
from tests.integration.test_errors import assert_problem
from tests.integration.test_users import promote

EVERYONES = "/api/v1/admin/executions"
SECRET = "which nobody else may read"


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


@pytest.fixture
async def root(app: FastAPI, bob: httpx2.AsyncClient) -> httpx2.AsyncClient:
    await promote(app, "bob@example.com")
    return bob


async def listed(root: httpx2.AsyncClient, **query: Any) -> list[str]:
    answer = await root.get(EVERYONES, params=query)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


async def test_executions_of_everyone_are_listed_by_status(
    app: FastAPI, root: httpx2.AsyncClient, alice: httpx2.AsyncClient
) -> None:
    done = await execute(alice, (await agent(alice))["id"], SECRET)
    await ended(alice, done["id"])
    waiting = await execute(alice, (await asking(alice, "calculate"))["id"], "What is 2 + 3?")
    await reached(alice, waiting["id"], "waiting")
    play(app, ModelFailure("refused", "The model refused to answer."))
    failed = await execute(root, (await agent(root))["id"])
    await ended(root, failed["id"])

    assert await listed(root) == [failed["id"], waiting["id"], done["id"]]
    for status, ids in (("failed", [failed]), ("waiting", [waiting]), ("completed", [done]), ("running", [])):
        assert await listed(root, status=status) == [one["id"] for one in ids]
    alice_id = (await alice.get("/api/v1/users/me")).json()["id"]
    assert await listed(root, user_id=alice_id) == [waiting["id"], done["id"]]
    told = (await root.get(EVERYONES)).json()
    assert told["counts"] == {"completed": 1, "failed": 1, "waiting": 1}
    first, *_, last = told["items"]
    assert first["error"] == {"code": "refused", "detail": "The model refused to answer."}
    assert (last["email"], last["agent_name"], last["error"]) == ("alice@example.com", "Helper", None)
    assert last["usage"]["steps"] == 1
    assert SECRET not in str(told)


async def test_pages_are_those_of_one_list(root: httpx2.AsyncClient, alice: httpx2.AsyncClient) -> None:
    helper = await agent(alice)
    ids = [(await execute(alice, helper["id"]))["id"] for _ in range(3)]
    cursor, found = None, list[str]()
    for _ in ids:
        query: dict[str, Any] = {"limit": 1} if cursor is None else {"limit": 1, "cursor": cursor}
        answer = (await root.get(EVERYONES, params=query)).json()
        found += [item["id"] for item in answer["items"]]
        cursor = answer["next_cursor"]
    assert (found, cursor) == (ids[::-1], None)


@pytest.mark.parametrize("query", ["status=lost", "limit=101", "cursor=1", "user_id=me"])
async def test_what_cannot_be_listed_is_refused(root: httpx2.AsyncClient, query: str) -> None:
    assert_problem(await root.get(f"{EVERYONES}?{query}"), 422, "validation_error")


def test_a_command_tells_the_same(prepared: Project) -> None:
    assert prepared.succeed("executions", "list") == "None has been under way within a day.\n"
    prepared.succeed("users", "create", "ann@example.com", typed="correct horse battery staple\n")
    id = UUID(int=7)
    with closing(sqlite3.connect(prepared.folder / "app.db")) as connection:
        connection.execute(AGENT)
        connection.execute(FAILED, (id.hex,))
        connection.commit()
    counts, head, row = prepared.succeed("executions", "list", "--status", "failed").splitlines()
    assert counts == "1 failed"
    assert head.split()[:3] == ["id", "user", "agent"]
    assert row.startswith(f"{id}  ann@example.com  Helper  failed ")
    assert row.endswith("  7       refused: The model refused to answer.")
    assert prepared.succeed("executions", "list", "--status", "waiting") == "1 failed\n"
    said = prepared.fail("executions", "list", "--status", "lost")
    assert said == "There is no status lost; those are queued, running, waiting, completed, failed, cancelled."


AGENT = """
INSERT INTO agents (id, created_at, user_id, name, model_name, temperature, instructions, updated_at)
SELECT id, created_at, id, 'Helper', 'demo', 0, '', created_at FROM users
"""
FAILED = """
INSERT INTO executions
    (id, created_at, user_id, agent_id, status, input, code, detail, configuration, last_sequence, losses, steps,
     seconds, input_tokens, output_tokens, finished_at)
SELECT ?, created_at, id, id, 'failed', 'go', 'refused', 'The model refused to answer.', '{}', 1, 0, 1,
    0, 4, 3, created_at FROM users
"""
