"""Rules that every path keeps, also those that are added later."""

from typing import Any
from uuid import uuid4

import httpx2
from fastapi import FastAPI

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


def operations(app: FastAPI) -> list[tuple[str, str, dict[str, Any]]]:
    paths: dict[str, dict[str, dict[str, Any]]] = app.openapi()["paths"]
    return [(method, path, operation) for path, item in paths.items() for method, operation in item.items()]


def filled(path: str) -> str:
    """The path with an id that belongs to nobody in place of each parameter."""
    return "/".join(str(uuid4()) if part.startswith("{") else part for part in path.split("/"))


async def test_every_path_is_closed_without_a_token(app: FastAPI, client: httpx2.AsyncClient) -> None:
    closed = [(method, path) for method, path, _ in operations(app) if (method, path) not in PUBLIC]
    assert closed
    for method, path in closed:
        answer = await client.request(method, filled(path), json={})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), (method, path)


async def test_what_is_public_exists(app: FastAPI) -> None:
    assert {(method, path) for method, path, _ in operations(app)} >= PUBLIC


async def test_every_body_refuses_unknown_fields(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    bodies = [
        (path, content["schema"]["$ref"].split("/")[-1])
        for _, path, operation in operations(app)
        for content in operation.get("requestBody", {}).get("content", {}).values()
    ]
    assert bodies
    for path, name in bodies:
        if path != "/api/v1/auth/login":  # the form of OAuth2, which allows more fields
            assert schemas[name]["additionalProperties"] is False, (path, name)


async def test_every_list_is_bounded(app: FastAPI) -> None:
    for method, path, operation in operations(app):
        answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
        if answer.get("schema", {}).get("$ref", "").split("/")[-1].startswith("PageRead"):
            limit = next(p for p in operation["parameters"] if p["name"] == "limit")
            assert limit["schema"]["maximum"] <= 100, (method, path)
        assert answer.get("schema", {}).get("type") != "array", (method, path)
