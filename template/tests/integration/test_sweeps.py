"""Tests rules that every path follows, including paths that are added later."""

import json
from collections.abc import AsyncGenerator, Iterator
from functools import cache
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr
from sqlalchemy import update
from starlette.routing import WebSocketRoute

from app.api.scopes import ACCOUNT_TAGS
from app.core.config import Settings
from app.core.database import Database
from app.main import create_app
from app.models.user import User
from tests.conftest import SECRET_KEY, bearer, running
from tests.counting import Cost, cost_of_reading, counting
from tests.owned.case import Case, cases, names, said, socket_cases
from tests.sockets import HOSTILE, connected, opening, spoiled, token_of

PUBLIC = {
    ("post", "/api/v1/auth/register"),
    ("post", "/api/v1/auth/login"),
    ("post", "/api/v1/auth/refresh"),
    ("post", "/api/v1/auth/password/forgot"),
    ("post", "/api/v1/auth/password/reset"),
    ("post", "/api/v1/auth/email/verify"),
    ("get", "/api/v1/info"),
    ("get", "/health/ready"),
    *names("PUBLIC"),
}
OF_SUPERUSERS = {"/api/v1/users/{user_id}"}
"""Lists paths whose ids belong to no user: 403 for all but superusers, whatever the id."""
UNKNOWN = {(404, "not_found"), (404, "model_not_found")}
ME = "/api/v1/users/me"
METHODS = {"get", "put", "post", "patch", "delete"}


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    """Yields an application that runs as a server, with all background tasks."""
    async with running(settings, is_server=True) as app:
        yield app


@pytest.fixture
def described() -> FastAPI:
    """Returns an application that is only inspected: it opens no database."""
    return _described()


@cache
def _described() -> FastAPI:
    return create_app(Settings(secret_key=SecretStr(SECRET_KEY)))


def operations(app: FastAPI) -> list[tuple[str, str, dict[str, Any]]]:
    paths: dict[str, dict[str, dict[str, Any]]] = app.openapi()["paths"]
    return [(method, path, operation) for path, item in paths.items() for method, operation in item.items()]


def filled(path: str) -> str:
    """Replaces each parameter of the path with an id that nobody owns."""
    return "/".join(str(uuid4()) if part.startswith("{") else part for part in path.split("/"))


def schemas_in(schema: Any, components: dict[str, Any], seen: set[str]) -> Iterator[str]:
    """Yields the names of all schemas that this one contains."""
    if isinstance(schema, list):
        for item in schema:
            yield from schemas_in(item, components, seen)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        name = value.rsplit("/", 1)[-1] if key == "$ref" else ""
        if name and name not in seen:
            seen.add(name)
            yield name
            yield from schemas_in(components[name], components, seen)
        yield from schemas_in(value, components, seen)


async def test_every_path_is_closed_without_a_token(app: FastAPI, client: httpx2.AsyncClient) -> None:
    closed = [(method, path) for method, path, _ in operations(app) if (method, path) not in PUBLIC]
    assert closed
    for method, path in closed:
        for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}):
            answer = await client.request(method, filled(path), json={}, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), (method, path)


def test_what_is_public_exists(described: FastAPI) -> None:
    assert {(method, path) for method, path, _ in operations(described)} >= PUBLIC


def sockets(app: FastAPI) -> list[str]:
    contexts = iter_route_contexts(app.routes)
    return [context.path or "" for context in contexts if isinstance(context.original_route, WebSocketRoute)]


async def open_sockets(app: FastAPI) -> set[str]:
    """Returns the paths of sockets that a client without a valid token can use."""
    found: set[str] = set()
    ways = [({"type": "ping"}, ()), ({"type": "auth", "token": "nonsense"}, ()), ({}, ("bearer", "nonsense"))]
    for path in sockets(app):
        for first, offered in ways:
            async with opening(app, filled(path), subprotocols=offered) as socket:
                await socket.send(**first)
                if (await socket.closed())[0] != 4401:
                    found.add(path)
    return found


async def test_every_socket_is_closed_without_a_token(app: FastAPI) -> None:
    """Finds an unprotected socket as well, which proves that the check works."""
    assert await open_sockets(app) == set()

    @app.websocket("/open")
    async def stands_open(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()
        await socket.close()

    assert await open_sockets(app) == {"/open"}


def test_every_socket_has_a_case(described: FastAPI) -> None:
    assert set(sockets(described)) == socket_cases().keys(), "correct SOCKETS in tests/owned"


async def test_anothers_ids_do_not_exist_for_a_socket(
    app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    for path, make in socket_cases().items():
        (theirs, frames), (own, _) = await make(alice), await make(bob)
        if "{" in path:
            async with opening(app, theirs, subprotocols=("bearer", token_of(bob))) as socket:
                assert await socket.closed() == (4404, "not_found")
        for client, place, is_theirs in ((bob, own, False), (alice, theirs, True)):
            async with connected(app, place, client) as socket:
                for frame in frames:
                    await socket.send(**frame, ref="asked")
                    await socket.send(type="ping", ref="then")
                    told = await socket.until_ref("then")
                    errors = [answer for answer in told if (answer.get("ref"), answer["type"]) == ("asked", "error")]
                    assert [error["status"] for error in errors] == ([] if is_theirs else [404]), (frame, told)


async def test_no_frame_breaks_a_socket(
    app: FastAPI, alice: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    for make in socket_cases().values():
        path, whole = await make(alice)
        frames = [json.dumps(frame) for frame in spoiled(whole)]
        async with connected(app, path, alice) as socket:
            for text in (*HOSTILE, *frames):
                await socket.send_text(text)
            await socket.send_bytes(b"\xff")
            await socket.send(type="ping", ref="the last")
            answers = [await socket.frame()]
            while answers[-1] != {"type": "pong", "ref": "the last"}:
                answers.append(await socket.frame())
        assert sum(answer["type"] == "error" for answer in answers) > len(HOSTILE)
        assert not [answer for answer in answers if answer.get("status", 0) >= 500]
    assert not [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}]


def test_every_path_with_an_id_has_a_case(described: FastAPI) -> None:
    with_ids = {path for _, path, _ in operations(described) if "{" in path}
    assert with_ids == cases().keys() | names("SHARED") | OF_SUPERUSERS, "correct CASES or SHARED in tests/owned"


async def test_what_an_api_key_reads_is_in_its_scopes(
    app: FastAPI, alice: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    """Answers outside of its scopes with 403, or as a client without a token is answered."""
    for scope in sorted(app.state.scopes - {"read"}):
        headers = await api_key(alice, scope)
        for method, path, operation in operations(app):
            if method != "get" or scope in operation.get("tags", ()):
                continue
            answer = await client.get(filled(path), headers=headers)
            anonymous = await client.get(filled(path))
            assert answer.status_code == 403 or answer.json() == anonymous.json(), (scope, path, answer.text)


async def test_an_api_key_that_may_read_changes_and_spends_nothing(
    app: FastAPI, alice: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    """Counts paths that answer 503 as spending: they would spend if their package were installed."""
    headers, spending = await api_key(alice, "read"), set[str]()
    for method, path, operation in operations(app):
        if (method, path) in PUBLIC or path in OF_SUPERUSERS:
            continue
        case = cases().get(path)
        place = await case.make(alice) if case else path
        if method != "get":
            assert (await client.request(method, place, headers=headers, json={})).status_code == 403, (method, path)
            continue
        cost, request_id = Cost(), uuid4().hex
        with counting(app, cost, request_id):
            own = await alice.get(place, headers={"X-Request-ID": request_id})
        spends = own.status_code == 503 or any("INSERT INTO usage" in statement for statement in cost.statements)
        spending |= {path} if spends else set()
        answer = await client.get(place, headers=headers)
        allowed = {403} if spends or operation["tags"][0] in ACCOUNT_TAGS - {"info"} else {own.status_code}
        assert answer.status_code in allowed or path == ME, (path, answer.text)
    assert spending == names("SPENDING"), "correct SPENDING in tests/owned"


async def api_key(client: httpx2.AsyncClient, scope: str) -> dict[str, str]:
    made = await client.post("/api/v1/auth/api-keys", json={"name": "A script", "scopes": [scope]})
    return bearer(made.json()["key"])


async def test_anothers_id_does_not_exist(app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    for path, case in cases().items():
        await assert_it_is_only_the_owners(app, alice, bob, path, case)


async def assert_it_is_only_the_owners(
    app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, path: str, case: Case
) -> None:
    for method in METHODS & app.openapi()["paths"][path].keys():
        body = {"json": case.bodies[method]} if method in case.bodies else {}
        theirs = await case.make(alice)
        answer = await bob.request(method, theirs, **body)
        unknown = await bob.request(method, filled(path), **body)
        if case.is_silent:
            assert (answer.status_code, unknown.status_code) == (204, 204), (method, path, answer.text)
        else:
            assert (answer.status_code, code_of(answer)) in UNKNOWN, (method, path, answer.text)
            assert answer.json().keys() == unknown.json().keys(), (method, path)
        found = (await alice.request(method, theirs, **body)).status_code
        assert found < 300 or (found == 503 and case.may_be_missing), (method, path)


def code_of(answer: httpx2.Response) -> str:
    """Returns the code of an error, which some protocols tell in their own form."""
    told = answer.json()
    return told.get("error", told)["code"]


@pytest.mark.parametrize("path", sorted(OF_SUPERUSERS))
async def test_ids_of_nobody_are_for_superusers(app: FastAPI, alice: httpx2.AsyncClient, path: str) -> None:
    own = (await alice.get(ME)).json()["id"]
    for method in METHODS & app.openapi()["paths"][path].keys():
        for id in (own, str(uuid4())):
            answer = await alice.request(method, path.format(user_id=id), json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), method


def test_every_body_refuses_unknown_fields(described: FastAPI) -> None:
    schemas = described.openapi()["components"]["schemas"]
    bodies = [
        (path, name)
        for _, path, operation in operations(described)
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for name in schemas_in(content["schema"], schemas, set())
    ]
    assert bodies
    for path, name in bodies:
        if path != "/api/v1/auth/login" and "properties" in schemas[name]:  # the form of OAuth2 allows more fields
            assert schemas[name]["additionalProperties"] is False, (path, name)


async def test_every_path_refuses_unknown_query_parameters(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    for method, path, _ in operations(app):
        if path.startswith("/api/"):
            answer = await alice.request(method, filled(path), params={"limitt": 1}, json={})
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "query.limitt"), (method, path)
    for path in sockets(app):
        async with connected(app, filled(path), alice, query="limitt=1") as socket:
            assert await socket.closed() == (4422, "validation_error"), path


def test_every_list_is_bounded(described: FastAPI) -> None:
    schemas, lists = described.openapi()["components"]["schemas"], 0
    for method, path, operation in operations(described):
        answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
        assert answer.get("type") != "array", (method, path)
        if "items" in schemas.get(answer.get("$ref", "").split("/")[-1], {}).get("properties", {}):
            limit = next(p for p in operation["parameters"] if p["name"] == "limit")
            assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, 100), (method, path)
            lists += 1
    assert lists


def test_every_path_says_that_it_may_be_asked_too_often(described: FastAPI) -> None:
    for method, path, operation in operations(described):
        if path.startswith("/api/"):
            answer = operation["responses"]["429"]["content"]
            assert answer.keys() == {"application/problem+json"}, (method, path)


async def test_what_reads_cost(app: FastAPI, alice: httpx2.AsyncClient, database: Database) -> None:
    """Allows one statement for authentication and two more, or as many as tests/owned says, on one connection."""
    async with database.write() as session:
        await session.execute(update(User).values(is_superuser=True))
    more = {path: count for found in said("READS") for path, count in found.items()}
    reads = [path for method, path, operation in operations(app) if method == "get" and is_closed_json(path, operation)]
    assert reads
    for path in reads:
        case = cases().get(path)
        if case is None and path in names("SHARED"):
            continue  # nobody says which of its ids exist
        place = await case.make(alice) if case else path.format(user_id=(await alice.get(ME)).json()["id"])
        cost = await cost_of_reading(app, alice, place)
        allowed = 1 + more.get(path, 2)
        assert len(cost.statements) <= allowed, f"GET {path} may cost {allowed} statements: {cost.statements}"
        assert cost.connections <= 1, f"GET {path} holds {cost.connections} connections at once"


def is_closed_json(path: str, operation: dict[str, Any]) -> bool:
    return ("get", path) not in PUBLIC and "application/json" in operation["responses"]["200"]["content"]
