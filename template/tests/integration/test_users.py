import asyncio
from dataclasses import fields
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.core.database import Database
from app.models.user import User
from app.repositories.principal import Principal
from app.schemas.user import UserRead
from tests.conftest import PASSWORD, MakeSettings, bearer, client_for, log_in, running, sign_in

USERS, ME, LOGIN = "/api/v1/users", "/api/v1/users/me", "/api/v1/auth/login"


async def promote(app: FastAPI, email: str) -> None:
    """Makes a user a superuser, as the command line does."""
    database: Database = app.state.database
    async with database.write() as session:
        await session.execute(update(User).where(User.email == email).values(is_superuser=True))


@pytest.fixture
async def root(app: FastAPI, bob: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """Makes bob a superuser, and returns his client."""
    await promote(app, "bob@example.com")
    return bob


async def id_of(client: httpx2.AsyncClient) -> str:
    return (await client.get(ME)).json()["id"]


async def found(root: httpx2.AsyncClient, **query: Any) -> list[str]:
    return [user["email"] for user in (await root.get(USERS, params=query)).json()["items"]]


def test_of_oneself_as_much_is_known_as_of_others() -> None:
    lacking = UserRead.model_fields.keys() - {field.name for field in fields(Principal)}
    assert not lacking, f"give Principal in app/repositories/principal.py a field for {lacking}"


async def test_others_may_not_administrate(alice: httpx2.AsyncClient) -> None:
    for answer in (
        await alice.get(USERS),
        await alice.get(f"{USERS}/{uuid4()}"),
        await alice.patch(f"{USERS}/{await id_of(alice)}", json={"is_superuser": True}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert not (await alice.get(ME)).json()["is_superuser"]


async def test_users_are_listed_and_found(root: httpx2.AsyncClient, alice: httpx2.AsyncClient) -> None:
    await root.post(
        "/api/v1/auth/register", json={"email": "a_b@example.com", "password": PASSWORD, "full_name": "Eve 100%"}
    )
    assert await found(root) == ["a_b@example.com", "alice@example.com", "bob@example.com"]
    assert await found(root, search="ALICE") == ["alice@example.com"]
    assert await found(root, search="eve") == ["a_b@example.com"]
    assert await found(root, search="_") == await found(root, search="0%") == ["a_b@example.com"]
    assert await found(root, search="nobody") == []
    assert (await root.get(USERS, params={"search": "\0"})).status_code == 422


async def test_one_user(root: httpx2.AsyncClient, alice: httpx2.AsyncClient) -> None:
    id = await id_of(alice)
    assert (await root.get(f"{USERS}/{id}")).json() == (await alice.get(ME)).json()
    assert (await root.get(f"{USERS}/{uuid4()}")).status_code == 404


async def test_a_deactivated_user_is_out_at_once_and_comes_back_by_logging_in(
    root: httpx2.AsyncClient, alice: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    id = await id_of(alice)
    answer = await root.patch(f"{USERS}/{id}", json={"is_active": False})
    assert (answer.status_code, answer.json()["is_active"]) == (200, False)
    assert (await alice.get(ME)).status_code == 401
    form = {"username": "alice@example.com", "password": PASSWORD}
    assert (await client.post(LOGIN, data=form)).status_code == 401
    await root.patch(f"{USERS}/{id}", json={"is_active": True})
    assert (await alice.get(ME)).status_code == 401
    assert (await client.post(LOGIN, data=form)).status_code == 200


async def test_a_role_counts_at_once(root: httpx2.AsyncClient, alice: httpx2.AsyncClient) -> None:
    id = await id_of(alice)
    await root.patch(f"{USERS}/{id}", json={"is_superuser": True})
    assert (await alice.get(USERS)).status_code == 200
    await root.patch(f"{USERS}/{id}", json={"is_superuser": False})
    assert (await alice.get(USERS)).status_code == 403


@pytest.mark.parametrize("body", [{"is_active": None}, {"email": "x@example.com"}, {"id": str(uuid4())}, {"role": "x"}])
async def test_a_change_that_is_refused(root: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    assert (await root.patch(f"{USERS}/{await id_of(root)}", json=body)).status_code == 422


@pytest.mark.parametrize("body", [{"is_active": False}, {"is_superuser": False}])
async def test_the_last_superuser_stays(root: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    answer = await root.patch(f"{USERS}/{await id_of(root)}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "last_superuser")
    assert (await root.get(USERS)).status_code == 200


async def test_two_superusers_who_demote_each_other_leave_one(
    app: FastAPI, root: httpx2.AsyncClient, alice: httpx2.AsyncClient
) -> None:
    await promote(app, "alice@example.com")
    alices, bobs = await id_of(alice), await id_of(root)
    answers = await asyncio.gather(
        root.patch(f"{USERS}/{alices}", json={"is_superuser": False}),
        alice.patch(f"{USERS}/{bobs}", json={"is_superuser": False}),
    )
    assert sorted(answer.status_code for answer in answers) in ([200, 403], [200, 409])


async def test_registration_can_be_closed(make_settings: MakeSettings) -> None:
    async with running(make_settings(registration_open=False)) as app, client_for(app) as client:
        answer = await client.post("/api/v1/auth/register", json={"email": "a@example.com", "password": PASSWORD})
        assert (answer.status_code, answer.json()["code"]) == (403, "registration_closed")
        assert (await client.post(LOGIN, data={"username": "a@example.com", "password": PASSWORD})).status_code == 401


async def test_signing_in_again_changes_no_role(client: httpx2.AsyncClient) -> None:
    headers = await sign_in(client, "first@example.com")
    assert not (await client.get(ME, headers=headers)).json()["is_superuser"]
    tokens = await log_in(client, "first@example.com")
    assert not (await client.get(ME, headers=bearer(tokens["access_token"]))).json()["is_superuser"]
