"""Tests what superusers see of everyone: usage, processes and jobs, over HTTP and by commands."""

import sqlite3
from contextlib import closing
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.core.database import Database
from app.models.base import now
from app.models.job import BackgroundJob, JobStatus
from app.models.process import Process
from app.models.usage import Usage
from app.repositories.process import DEAD_SECONDS, ProcessRepository
from tests.integration.conftest import Project
from tests.integration.test_errors import assert_problem
from tests.integration.test_sweeps import operations
from tests.integration.test_users import promote

USED = """
INSERT INTO usage
    (id, created_at, user_id, day, feature, model, requests, input_tokens, output_tokens, characters, seconds, cost)
SELECT id, created_at, id, ?, 'chat', 'demo', 1, 2, 3, 4, 5, 0.25 FROM users
"""
BEATS = """
INSERT INTO processes (id, created_at, is_server, works, beat_at)
VALUES ('00000000000000000000000000000007', '2026-03-01 12:00:00.000000', 1, 1, '2026-03-01 12:30:00.000000')
"""
USAGE, PROCESSES, ME = "/api/v1/admin/usage", "/api/v1/admin/processes", "/api/v1/users/me"


@pytest.fixture
async def root(app: FastAPI, bob: httpx2.AsyncClient) -> httpx2.AsyncClient:
    await promote(app, "bob@example.com")
    return bob


async def id_of(client: httpx2.AsyncClient) -> UUID:
    return UUID((await client.get(ME)).json()["id"])


async def use(database: Database, user_id: UUID, day: date, model: str, *, tokens: int, cost: str | None) -> None:
    counted: dict[str, Any] = {"requests": 2, "input_tokens": tokens, "output_tokens": 1, "characters": 3, "seconds": 4}
    priced = None if cost is None else Decimal(cost)
    async with database.write() as session:
        session.add(Usage(user_id=user_id, day=day, feature="chat", model=model, cost=priced, **counted))


@pytest.fixture
async def used(app: FastAPI, root: httpx2.AsyncClient, alice: httpx2.AsyncClient) -> date:
    """Lets two people use two models on two days; returns the second day, today."""
    today, database = now().date(), app.state.database
    yesterday = today - timedelta(days=1)
    await use(database, await id_of(alice), yesterday, "cheap", tokens=1_000, cost="0.000000001")
    await use(database, await id_of(alice), today, "dear", tokens=10, cost="2.5")
    await use(database, await id_of(root), today, "dear", tokens=20, cost="1.5")
    await use(database, await id_of(root), today, "unpriced", tokens=5_000, cost=None)
    await use(database, await id_of(root), today - timedelta(days=366), "old", tokens=1, cost="100")
    return today


async def sums(root: httpx2.AsyncClient, by: str, **query: Any) -> list[tuple[Any, ...]]:
    answer = await root.get(USAGE, params={"by": by, **query})
    assert answer.status_code == 200, answer.text
    key = {"user": "email"}.get(by, by)
    return [(item[key], item["input_tokens"], item["cost"]) for item in answer.json()["items"]]


async def test_usage_of_everyone_is_summed_in_each_way(root: httpx2.AsyncClient, used: date) -> None:
    yesterday = str(used - timedelta(days=1))
    assert await sums(root, "day") == [(str(used), 5_030, "4"), (yesterday, 1_000, "0.000000001")]
    assert await sums(root, "model") == [("dear", 30, "4"), ("cheap", 1_000, "0.000000001"), ("unpriced", 5_000, None)]
    assert await sums(root, "feature") == [("chat", 6_030, "4.000000001")]
    assert await sums(root, "user") == [("alice@example.com", 1_010, "2.500000001"), ("bob@example.com", 5_020, "1.5")]
    assert await sums(root, "model", days=1) == [("dear", 30, "4"), ("unpriced", 5_000, None)]
    assert await sums(root, "model", days=366) == await sums(root, "model")
    total = (await root.get(USAGE, params={"limit": 1})).json()["total"]
    assert (total["requests"], total["output_tokens"], total["characters"], total["seconds"]) == (8, 4, 12, 16)


async def test_usage_of_one_person_is_summed(root: httpx2.AsyncClient, alice: httpx2.AsyncClient, used: date) -> None:
    mine = {"user_id": str(await id_of(alice))}
    assert await sums(root, "model", **mine) == [("dear", 10, "2.5"), ("cheap", 1_000, "0.000000001")]
    assert [email for email, *_ in await sums(root, "user", **mine)] == ["alice@example.com"]
    assert (await root.get(USAGE, params=mine)).json()["total"]["cost"] == "2.500000001"


@pytest.mark.parametrize("by", ["day", "feature", "model", "user"])
async def test_pages_of_usage_are_those_of_one_list(root: httpx2.AsyncClient, used: date, by: str) -> None:
    whole, cursor, found = await sums(root, by), 0, list[tuple[Any, ...]]()
    for _ in whole:
        found += await sums(root, by, limit=1, cursor=cursor)
        cursor = (await root.get(USAGE, params={"by": by, "limit": 1, "cursor": cursor})).json()["next_cursor"]
    assert (found, cursor) == (whole, None)


async def test_without_usage_there_are_no_sums(root: httpx2.AsyncClient) -> None:
    answer = (await root.get(USAGE)).json()
    assert (answer["items"], answer["next_cursor"]) == ([], None)
    assert (answer["total"]["requests"], answer["total"]["cost"]) == (0, None)


@pytest.mark.parametrize("query", ["by=week", "days=0", "days=367", "limit=0", "limit=101", "cursor=-1", "user_id=me"])
async def test_what_cannot_be_summed_is_refused(root: httpx2.AsyncClient, query: str) -> None:
    assert_problem(await root.get(f"{USAGE}?{query}"), 422, "validation_error")


async def test_processes_and_jobs_are_listed(app: FastAPI, root: httpx2.AsyncClient) -> None:
    dead = UUID(int=1)
    async with app.state.database.write() as session:
        await ProcessRepository(session).beat(dead, is_server=False, is_worker=True)
        passed = now() - timedelta(seconds=2 * DEAD_SECONDS)
        await session.execute(update(Process).where(Process.id == dead).values(last_heartbeat_at=passed))
        for status, ended in ((JobStatus.queued, None), (JobStatus.failed, passed)):
            error = None if ended is None else "SMTPConnectError"
            made: dict[str, Any] = {"name": "gone", "arguments": {}, "queue": "default", "priority": 0, "turn": 1}
            session.add(BackgroundJob(status=status, attempts=6, error=error, failed_at=ended, **made))
    told = (await root.get(PROCESSES)).json()
    assert [(row["is_worker"], row["is_alive"]) for row in told["processes"] if row["id"] == str(dead)] == [
        (True, False)
    ]
    assert [job for job in told["jobs"] if not job["is_known"]] == [
        {"name": "gone", "is_known": False, "counts": {"failed": 1, "queued": 1}}
    ]
    [failed] = told["failed_jobs"]
    assert (failed["name"], failed["error"], failed["attempts"]) == ("gone", "SMTPConnectError", 6)


async def test_what_belongs_to_everyone_is_for_superusers(
    app: FastAPI, alice: httpx2.AsyncClient, root: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Keeps API keys out as well, those of superusers too, and logs each look."""
    made = await root.post("/api/v1/auth/api-keys", json={"name": "A script", "scopes": ["read"]})
    key = {"Authorization": f"Bearer {made.json()['key']}"}
    assert "admin" not in app.state.scopes
    places = [(method, path) for method, path, operation in operations(app) if "admin" in operation.get("tags", ())]
    assert len(places) >= 2
    for method, path in places:
        assert_problem(await alice.request(method, path), 403, "forbidden")
        assert_problem(await alice.request(method, path, headers=key), 403, "session_required")
        caplog.clear()
        assert (await root.request(method, path)).status_code == 200
        assert "administration read" in caplog.text
        assert path in caplog.text


def test_commands_tell_the_same(prepared: Project) -> None:
    assert prepared.succeed("processes") == "No process runs.\n"
    assert prepared.succeed("usage").splitlines()[1].split() == ["total", "0", "0", "0", "0", "0"]
    prepared.succeed("users", "create", "ann@example.com", typed="correct horse battery staple\n")
    today = str(now().date())
    with closing(sqlite3.connect(prepared.folder / "app.db")) as connection:
        connection.execute(USED, (today,))
        connection.execute(BEATS)
        connection.commit()
    for by, name in (("day", today), ("feature", "chat"), ("model", "demo"), ("user", "ann@example.com")):
        head, row, total = prepared.succeed("usage", "--by", by, "--user", "Ann@example.com").splitlines()
        assert head.startswith(f"{by} ")
        assert row.split() == [name, "1", "2", "3", "4", "5", "0.2500"]
        assert total.split()[1:] == row.split()[1:]
    assert prepared.fail("usage", "--user", "eve@example.com") == "There is no account eve@example.com."
    assert "less than or equal to 366" in prepared.fail("usage", "--days", "367")
    [_, row] = prepared.succeed("processes").splitlines()
    assert row.split() == [
        str(UUID(int=7)),
        "server",
        "and",
        "worker",
        "2026-03-01",
        "12:00:00",
        "2026-03-01",
        "12:30:00",
        "died",
    ]
