"""Rules that every path keeps, also those that are added later."""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.routing import iter_route_contexts
from starlette.routing import WebSocketRoute
from starlette.types import Message

from tests.owned.case import Case

PUBLIC = {
    ("post", "/api/v1/auth/register"),
    ("post", "/api/v1/auth/login"),
    ("post", "/api/v1/auth/refresh"),
    ("post", "/api/v1/auth/password/forgot"),
    ("post", "/api/v1/auth/password/reset"),
    ("post", "/api/v1/auth/email/verify"),
    ("get", "/api/v1/info"),
    ("get", "/health/ready"),
}
OF_SUPERUSERS = {"/api/v1/users/{user_id}"}
"""Paths whose ids belong to nobody: 403 for all but superusers, whatever the id."""
METHODS = {"get", "put", "post", "patch", "delete"}


def operations(app: FastAPI) -> list[tuple[str, str, dict[str, Any]]]:
    paths: dict[str, dict[str, dict[str, Any]]] = app.openapi()["paths"]
    return [(method, path, operation) for path, item in paths.items() for method, operation in item.items()]


def filled(path: str) -> str:
    """The path with an id that belongs to nobody in place of each parameter."""
    return "/".join(str(uuid4()) if part.startswith("{") else part for part in path.split("/"))


def cases() -> dict[str, Case]:
    """Of every module in tests/owned: a feature brings its own."""
    folder = Path(__file__).parents[1] / "owned"
    modules = [import_module(f"tests.owned.{found.name}") for found in iter_modules([str(folder)])]
    return {path: case for module in modules for path, case in getattr(module, "CASES", {}).items()}


def schemas_in(schema: Any, components: dict[str, Any], seen: set[str]) -> Iterator[str]:
    """The names of all schemas that this one is made of."""
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


async def test_what_is_public_exists(app: FastAPI) -> None:
    assert {(method, path) for method, path, _ in operations(app)} >= PUBLIC


async def knock(app: FastAPI, path: str, first: dict[str, str]) -> int | None:
    """The code that a socket is closed with after its first frame; None when it stays open."""
    frames: list[Message] = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": json.dumps(first)}]
    close: list[int] = []

    async def receive() -> Message:
        return frames.pop(0) if frames else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Message) -> None:
        if message["type"] == "websocket.close":
            close.append(message.get("code", 1000))

    scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": []}
    await app({**scope, "root_path": "", "scheme": "ws", "subprotocols": [], "client": ("test", 1)}, receive, send)
    return close[0] if close else None


async def open_sockets(app: FastAPI) -> list[str]:
    """Those that do not send strangers away."""
    found: list[str] = []
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, WebSocketRoute):
            path = filled(context.path or "")
            for first in ({"type": "ping"}, {"type": "auth", "token": "nonsense"}):
                if await knock(app, path, first) != 4401:
                    found.append(path)
    return found


async def test_every_socket_is_closed_without_a_token(app: FastAPI) -> None:
    assert await open_sockets(app) == []


async def test_a_socket_that_stands_open_is_found(app: FastAPI) -> None:
    @app.websocket("/open")
    async def stands_open(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()

    assert set(await open_sockets(app)) == {"/open"}


async def test_every_path_with_an_id_has_a_case(app: FastAPI) -> None:
    with_ids = {path for _, path, _ in operations(app) if "{" in path}
    assert with_ids == cases().keys() | OF_SUPERUSERS


@pytest.mark.parametrize("path", sorted(cases()))
async def test_anothers_id_does_not_exist(
    app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, path: str
) -> None:
    case = cases()[path]
    for method in METHODS & app.openapi()["paths"][path].keys():
        body = {"json": case.bodies[method]} if method in case.bodies else {}
        theirs = await case.make(alice)
        answer = await bob.request(method, theirs, **body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, answer.text)
        unknown = await bob.request(method, filled(path), **body)
        assert answer.json().keys() == unknown.json().keys()
        assert (await alice.request(method, theirs, **body)).status_code < 300, method


@pytest.mark.parametrize("path", sorted(OF_SUPERUSERS))
async def test_ids_of_nobody_are_for_superusers(app: FastAPI, alice: httpx2.AsyncClient, path: str) -> None:
    own = (await alice.get("/api/v1/users/me")).json()["id"]
    for method in METHODS & app.openapi()["paths"][path].keys():
        for id in (own, str(uuid4())):
            answer = await alice.request(method, path.format(user_id=id), json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), method


async def test_every_body_refuses_unknown_fields(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    bodies = [
        (path, name)
        for _, path, operation in operations(app)
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for name in schemas_in(content["schema"], schemas, set())
    ]
    assert bodies
    for path, name in bodies:
        if path != "/api/v1/auth/login" and "properties" in schemas[name]:  # the form of OAuth2 allows more fields
            assert schemas[name]["additionalProperties"] is False, (path, name)


async def test_every_list_is_bounded(app: FastAPI) -> None:
    schemas, lists = app.openapi()["components"]["schemas"], 0
    for method, path, operation in operations(app):
        answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
        assert answer.get("type") != "array", (method, path)
        if "items" in schemas.get(answer.get("$ref", "").split("/")[-1], {}).get("properties", {}):
            limit = next(p for p in operation["parameters"] if p["name"] == "limit")
            assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, 100), (method, path)
            lists += 1
    assert lists


async def test_every_path_says_that_it_may_be_asked_too_often(app: FastAPI) -> None:
    for method, path, operation in operations(app):
        if path.startswith("/api/"):
            answer = operation["responses"]["429"]["content"]
            assert answer.keys() == {"application/problem+json"}, (method, path)
