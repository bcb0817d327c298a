"""What a conversation costs does not grow with it: everything is found by an index, and little of it is read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import insert, text
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.models.base import now
from app.models.message import Message, MessageStatus, Role
from tests.chats import CONVERSATIONS, SEND
from tests.counting import listening

LENGTH, PAGE = 10_000, 50
FEW = 4 * PAGE
"""Rows that one statement may look at."""
Executed = tuple[str, Any]


@pytest.fixture
async def long(alice: httpx2.AsyncClient, database: Database) -> str:
    id = UUID((await alice.post(CONVERSATIONS, json={})).json()["id"])
    at = {"created_at": now(), "conversation_id": id, "stop_requested": False, "status": MessageStatus.completed}
    roles = (Role.user, Role.assistant)
    rows = [
        {**at, "id": uuid7(), "position": position, "role": roles[(position + 1) % 2], "content": f"message {position}"}
        for position in range(1, LENGTH + 1)
    ]
    async with database.write() as session:
        await session.execute(insert(Message), rows)
        await session.execute(text("ANALYZE"))
    return str(id)


@contextmanager
def executed(app: FastAPI) -> Iterator[list[Executed]]:
    """The statements that look for messages, with their values."""
    found: list[Executed] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if "FROM messages" in statement and statement.startswith("SELECT"):
            found.append((statement, values))

    with listening(app, before_cursor_execute=note):
        yield found


async def explained(database: Database, statement: str, values: Any) -> list[str]:
    """What is wrong with how the database finds what it is asked for."""
    on_postgresql = database.url.get_backend_name() == "postgresql"
    explain = "EXPLAIN (ANALYZE, FORMAT JSON)" if on_postgresql else "EXPLAIN QUERY PLAN"
    async with database.engine.connect() as connection:
        told = (await connection.exec_driver_sql(f"{explain} {statement}", values)).all()
    if not on_postgresql:
        return [step for *_, step in told if step.startswith("SCAN messages")]
    [plan] = json.loads(told[0][0]) if isinstance(told[0][0], str) else told[0][0]
    return [str(step) for step in steps(plan["Plan"]) if looked_at(step) > FEW]


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for step in plan.get("Plans", []):
        yield from steps(step)


def looked_at(step: dict[str, Any]) -> int:
    return (step["Actual Rows"] + step.get("Rows Removed by Filter", 0)) * step["Actual Loops"]


async def assert_little_is_read(database: Database, found: list[Executed]) -> None:
    assert found
    for statement, values in found:
        assert await explained(database, statement, values) == [], statement


async def test_a_page_reads_a_page(app: FastAPI, alice: httpx2.AsyncClient, database: Database, long: str) -> None:
    params: dict[str, Any] = {"limit": PAGE}
    for _ in range(2):
        with executed(app) as found:
            page = (await alice.get(f"{CONVERSATIONS}/{long}/messages", params=params)).json()
        assert len(page["items"]) == PAGE
        await assert_little_is_read(database, found)
        params["cursor"] = page["next_cursor"]


async def test_a_message_reads_what_the_model_is_sent(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database, long: str
) -> None:
    with executed(app) as found:
        answer = await alice.post(SEND, json={"conversation_id": long, "content": "hello"})
    assert answer.status_code == 201
    await assert_little_is_read(database, found)


@pytest.mark.usefixtures("long")
async def test_a_plan_that_reads_all_is_found(database: Database) -> None:
    assert await explained(database, "SELECT * FROM messages WHERE content LIKE '%nobody%'", ())
