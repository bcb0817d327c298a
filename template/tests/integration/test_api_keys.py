from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update

from app.api.deps import CurrentUser
from app.core.database import Database
from app.models.user import ApiKey, User
from tests.conftest import bearer
from tests.integration.test_errors import assert_problem

KEYS, ME, SESSIONS = "/api/v1/auth/api-keys", "/api/v1/users/me", "/api/v1/auth/sessions"


@pytest.fixture
def database(app: FastAPI) -> Database:
    return app.state.database


@pytest.fixture
def notes(app: FastAPI) -> str:
    """Adds a route of the project's own, which needs the scope `notes`, and returns its path."""
    app.state.scopes = {*app.state.scopes, "notes"}
    app.add_api_route("/notes", note, methods=["GET", "POST"], tags=["notes"])
    return "/notes"


async def note(user: CurrentUser) -> str:
    return user.email


async def make(client: httpx2.AsyncClient, *scopes: str, **body: Any) -> httpx2.Response:
    return await client.post(KEYS, json={"name": "A script", "scopes": scopes, **body})


async def key(client: httpx2.AsyncClient, *scopes: str) -> dict[str, str]:
    return bearer((await make(client, *scopes)).json()["key"])


async def test_a_key_is_shown_once(alice: httpx2.AsyncClient, database: Database) -> None:
    answer = await make(alice, "read", expires_in_days=7)
    made = answer.json()
    assert answer.status_code == 201
    [listed] = (await alice.get(KEYS)).json()["items"]
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert listed.keys() == {"id", "name", "start", "scopes", "created_at", "expires_at", "last_used_at"}
    assert made["key"].startswith(made["start"])
    lifetime = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert timedelta(days=6, hours=23) < lifetime < timedelta(days=7, hours=1)
    async with database.read() as session:
        assert made["key"] not in repr((await session.execute(select(ApiKey.__table__))).one())


async def test_a_key_may_do_what_its_scopes_say(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient, notes: str
) -> None:
    read, write = await key(alice, "read"), await key(alice, "notes")
    assert (await client.get(ME, headers=read)).json()["email"] == "alice@example.com"
    assert (await client.get(notes, headers=read)).status_code == 200
    assert_problem(await client.post(notes, headers=read), 403, "missing_scope")
    assert (await client.post(notes, headers=write)).status_code == 200
    assert (await client.get(notes, headers=write)).status_code == 200
    assert_problem(await client.get(ME, headers=write), 403, "missing_scope")


async def test_a_key_is_refused_where_a_person_must_act(
    app: FastAPI, alice: httpx2.AsyncClient, client: httpx2.AsyncClient, database: Database
) -> None:
    async with database.write() as session:
        await session.execute(update(User).values(is_superuser=True))
    every = await key(alice, *app.state.scopes)
    for method, path in (
        ("GET", KEYS),
        ("POST", KEYS),
        ("GET", SESSIONS),
        ("POST", "/api/v1/auth/logout"),
        ("POST", "/api/v1/auth/password/change"),
        ("POST", "/api/v1/auth/email/change"),
        ("GET", "/api/v1/users"),
    ):
        assert_problem(await client.request(method, path, headers=every, json={}), 403, "session_required")


@pytest.mark.parametrize(
    "body",
    [
        {"scopes": []},
        {"scopes": ["auth"]},
        {"scopes": ["users"]},
        {"scopes": ["*"]},
        {"name": " "},
        {"name": "x" * 101},
        {"expires_in_days": 0},
        {"expires_in_days": 366},
        {"expires_in_days": None},
        {"key": "ak_mine"},
    ],
)
async def test_a_key_that_is_refused(alice: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    answer = await alice.post(KEYS, json={"name": "A script", "scopes": ["read"], **body})
    assert answer.status_code == 422


async def test_a_deleted_key_is_worth_nothing(alice: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    made = (await make(alice, "read")).json()
    assert (await alice.delete(f"{KEYS}/{made['id']}")).status_code == 204
    assert_problem(await client.get(ME, headers=bearer(made["key"])), 401, "unauthenticated")


async def test_another_persons_key_does_not_exist(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    made = (await make(alice, "read")).json()
    assert (await bob.get(KEYS)).json()["items"] == []
    assert (await bob.delete(f"{KEYS}/{made['id']}")).status_code == 404


@pytest.mark.parametrize("nonsense", ["ak_", "ak_nonsense", "ak_" + "x" * 43, "ak_\x7f"])
async def test_a_key_that_nobody_was_given(client: httpx2.AsyncClient, nonsense: str) -> None:
    assert (await client.get(ME, headers=bearer(nonsense))).status_code == 401


async def test_a_key_expires(alice: httpx2.AsyncClient, client: httpx2.AsyncClient, database: Database) -> None:
    read = await key(alice, "read")
    async with database.write() as session:
        await session.execute(update(ApiKey).values(expires_at=datetime.now(UTC)))
    assert (await client.get(ME, headers=read)).status_code == 401


async def test_a_key_ends_with_its_user(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient, database: Database
) -> None:
    read = await key(alice, "read")
    async with database.write() as session:
        await session.execute(update(User).values(is_active=False))
    assert (await client.get(ME, headers=read)).status_code == 401


async def test_last_use_is_noted(alice: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    read = await key(alice, "read")
    await client.get(ME, headers=read)
    [first] = (await alice.get(KEYS)).json()["items"]
    await client.get(ME, headers=read)
    [second] = (await alice.get(KEYS)).json()["items"]
    assert first["last_used_at"] == second["last_used_at"] is not None


async def test_a_key_outlives_the_session_that_made_it(alice: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    read = await key(alice, "read")
    await alice.post("/api/v1/auth/logout")
    assert (await client.get(ME, headers=read)).status_code == 200
