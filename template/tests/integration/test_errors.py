import json
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing

import asyncpg
import httpx2
import pytest
from asyncpg import DeadlockDetectedError
from fastapi import FastAPI
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from app.main import create_app
from app.schemas.user import UserCreate
from app.services.processes import heartbeat
from tests.conftest import PASSWORD, MakeSettings, client_for


def assert_problem(answer: httpx2.Response, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem.keys() - {"errors"} == {"type", "title", "status", "detail", "code", "request_id"}
    assert problem["request_id"] == answer.headers["x-request-id"]


async def test_an_unknown_path(client: httpx2.AsyncClient) -> None:
    assert_problem(await client.get("/api/v1/nothing"), 404, "not_found")


async def test_a_wrong_method(client: httpx2.AsyncClient) -> None:
    assert_problem(await client.put("/api/v1/info"), 405, "method_not_allowed")


async def test_a_body_that_is_too_large(client: httpx2.AsyncClient) -> None:
    content = json.dumps({"email": "a@example.com", "password": "x" * 2_000_000})
    answer = await client.post("/api/v1/auth/register", content=content, headers={"Content-Type": "application/json"})
    assert_problem(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '"text"', '{"email": 1}', "\ud800".encode("utf-8", "surrogatepass")]
)
async def test_a_body_that_is_not_what_was_asked_for(client: httpx2.AsyncClient, body: str | bytes) -> None:
    answer = await client.post("/api/v1/auth/register", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ('{"email": }', "application/json", "the body is not valid JSON (character 10)"),
        ("[]", "application/json", "the body must be a JSON object"),
        ("{}", "text/plain", "send JSON with Content-Type: application/json"),
        ("{}", None, "send JSON with Content-Type: application/json"),
    ],
)
async def test_a_body_that_is_no_json_object_is_said_so(
    client: httpx2.AsyncClient, body: str, kind: str | None, message: str
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = await client.post("/api/v1/auth/register", content=body.encode(), headers=headers)
    assert_problem(answer, 422, "validation_error")
    assert answer.json()["errors"] == [{"field": "body", "message": message}]


async def test_only_the_body_itself_is_called_the_body(app: FastAPI, client: httpx2.AsyncClient) -> None:
    @app.post("/nested")
    async def nested(parts: list[UserCreate]) -> None: ...

    answer = await client.post("/nested", json=["text"])
    [error] = answer.json()["errors"]
    assert error["field"] == "body.0"
    assert "the body" not in error["message"]


async def test_a_field_that_is_wrong_is_named_and_not_repeated(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/v1/auth/register", json={"email": "a@example.com", "password": "hunter2"})
    assert_problem(answer, 422, "validation_error")
    assert [error["field"] for error in answer.json()["errors"]] == ["body.password"]
    assert "hunter2" not in answer.text


async def test_what_nobody_expected_tells_nothing(
    app: FastAPI, client: httpx2.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("password hunter2")

    answer = await client.get("/broken", headers={"Origin": "http://localhost:3000"})
    assert_problem(answer, 500, "internal")
    assert "hunter2" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"


async def test_a_database_that_fails_for_a_moment_is_worth_another_try(
    monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings, database_url: str
) -> None:
    """Makes a request fail on a lock that another connection holds."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 3600)  # otherwise the heartbeat could meet the lock first
    app = create_app(make_settings(database_lock_timeout=0.01))
    body = {"email": "ada@example.com", "password": PASSWORD}
    async with app.router.lifespan_context(app), client_for(app) as client:
        async with trouble(database_url):
            failed = await client.post("/api/v1/auth/register", json=body)
        assert_problem(failed, 503, "database_unavailable")
        assert failed.headers["retry-after"] == "1"
        assert (await client.post("/api/v1/auth/register", json=body)).status_code == 201


async def test_a_deadlock_is_worth_another_try(app: FastAPI, client: httpx2.AsyncClient) -> None:
    """Answers 503 where PostgreSQL ends one of two transactions that wait for each other."""

    @app.get("/deadlock")
    async def deadlock() -> None:
        raise DBAPIError("DELETE FROM users", {}, DeadlockDetectedError("deadlock detected"))

    assert_problem(await client.get("/deadlock"), 503, "database_unavailable")


@asynccontextmanager
async def trouble(url: str) -> AsyncGenerator[None]:
    if url.startswith("postgresql"):
        connection = await asyncpg.connect(url)
        async with connection.transaction():
            await connection.execute("LOCK TABLE users")
            yield
        await connection.close()
        return
    with closing(sqlite3.connect(make_url(url).database or "", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def test_a_request_id_is_kept_when_it_is_harmless(client: httpx2.AsyncClient) -> None:
    kept = await client.get("/api/v1/info", headers={"X-Request-ID": "trace-0123456789"})
    replaced = await client.get("/api/v1/info", headers={"X-Request-ID": "evil\tvalue with spaces"})
    assert kept.headers["x-request-id"] == "trace-0123456789"
    assert "evil" not in replaced.headers["x-request-id"]


async def test_the_openapi_document_knows_problems_and_where_to_log_in(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    flow = document["components"]["securitySchemes"]["bearer"]["flows"]["password"]
    assert flow["tokenUrl"] in document["paths"]
    assert "request_id" in document["components"]["schemas"]["Problem"]["properties"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_documentation_is_off_outside_local(make_settings: MakeSettings) -> None:
    app = create_app(make_settings(environment="production"))
    async with app.router.lifespan_context(app), client_for(app) as client:
        assert (await client.get("/docs")).status_code == 404
        assert (await client.get("/openapi.json")).status_code == 404
        assert "strict-transport-security" in (await client.get("/api/v1/info")).headers
