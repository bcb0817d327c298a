"""Tests that strangers who guess a user's password do not lock that user out."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from fastapi import FastAPI

from app.core.rate_limits import ADDRESSES_THAT_LOCK
from tests.conftest import PASSWORD, SECRET_KEY, MakeSettings, bearer, client_for, log_in, running, sign_in
from tests.integration.test_throttle import assert_too_many, from_address, statuses, try_log_in
from tests.letterbox import kept, token_in

AUTH, ALICE, OTHER = "/api/v1/auth", "alice@example.com", "another long enough phrase"


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """Uses SQLite only, since what is tested here does not depend on the database."""
    path = tmp_path / "app.db"
    path.write_bytes(migrated_file.read_bytes())
    return f"sqlite:///{path}"


@asynccontextmanager
async def locked(settings: Any) -> AsyncGenerator[tuple[FastAPI, httpx2.AsyncClient, dict[str, Any]]]:
    """Lets strangers at several addresses use up an account's log-in attempts; yields its owner's tokens, too."""
    async with running(settings) as app, client_for(app) as client:
        await sign_in(client, ALICE)
        tokens = await log_in(client, ALICE)
        for number in range(ADDRESSES_THAT_LOCK):
            async with from_address(app, f"192.0.2.{number}") as stranger:
                assert await statuses(stranger, ALICE) == [401]
        assert_too_many(await try_log_in(client, ALICE, PASSWORD), 3600)
        yield app, client, tokens


async def log_in_with(client: httpx2.AsyncClient, token: str, password: str = PASSWORD) -> httpx2.Response:
    form = {"username": ALICE, "password": password}
    return await client.post(f"{AUTH}/login", data=form, headers={"X-Previous-Token": token})


@pytest.fixture
def few(make_settings: MakeSettings) -> Any:
    return make_settings(login_failures_per_hour=ADDRESSES_THAT_LOCK)


async def test_one_stranger_keeps_nobody_out(make_settings: MakeSettings) -> None:
    async with running(make_settings(login_failures_per_hour=10)) as app, client_for(app) as client:
        await sign_in(client, ALICE)
        async with from_address(app, "192.0.2.7") as stranger:
            assert await statuses(stranger, *[ALICE] * 20) == [401] * 2 + [429] * 18
        await log_in(client, ALICE)


async def test_a_device_that_is_known_is_let_in(few: Any) -> None:
    async with locked(few) as (_, client, tokens):
        await client.post(f"{AUTH}/logout", headers=bearer(tokens["access_token"]))
        claims = jwt.decode(tokens["access_token"], SECRET_KEY, ["HS256"])
        expired = jwt.encode(claims | {"exp": 1}, SECRET_KEY, "HS256")
        for token in (tokens["access_token"], expired):
            assert (await log_in_with(client, token)).status_code == 200
        assert_too_many(await try_log_in(client, ALICE, PASSWORD), 3600)


async def test_what_is_no_token_of_this_person_proves_nothing(few: Any) -> None:
    async with locked(few) as (_, client, tokens):
        await sign_in(client, "bob@example.com")
        bobs = (await log_in(client, "bob@example.com"))["access_token"]
        claims = jwt.decode(tokens["access_token"], SECRET_KEY, ["HS256"])
        forged = jwt.encode(claims, "another-key-0123456789-0123456789", "HS256")
        for token in (bobs, forged, "nonsense", tokens["refresh_token"]):
            assert_too_many(await log_in_with(client, token), 3600)


async def test_a_known_device_may_not_guess_for_ever(few: Any) -> None:
    async with locked(few) as (_, client, tokens):
        for _ in range(ADDRESSES_THAT_LOCK):
            assert (await log_in_with(client, tokens["access_token"], "wrong password")).status_code == 401
        assert_too_many(await log_in_with(client, tokens["access_token"]), 3600)


async def test_who_is_logged_in_can_change_the_password(few: Any) -> None:
    async with locked(few) as (_, client, tokens):
        body = {"current_password": PASSWORD, "new_password": OTHER}
        answer = await client.post(f"{AUTH}/password/change", json=body, headers=bearer(tokens["access_token"]))
        assert answer.status_code == 204


async def test_a_mailed_link_lets_in(few: Any, tmp_path: Path) -> None:
    async with locked(few) as (app, client, _):
        assert (await client.post(f"{AUTH}/password/forgot", json={"email": ALICE})).status_code == 202
        await app.state.worker.drain()
        token = token_in(kept(tmp_path / "mailbox")[-1])
        reset = await client.post(f"{AUTH}/password/reset", json={"token": token, "password": OTHER})
        assert reset.status_code == 204
        await log_in(client, ALICE, OTHER)


async def test_an_address_may_refresh_so_often(make_settings: MakeSettings) -> None:
    async with running(make_settings(login_attempts_per_minute=2)) as app, client_for(app) as client:
        for _ in range(2):
            assert (await client.post(f"{AUTH}/refresh", json={"refresh_token": "x"})).status_code == 401
        assert_too_many(await client.post(f"{AUTH}/refresh", json={"refresh_token": "x"}), 60)
        async with from_address(app, "192.0.2.7") as other:
            assert (await other.post(f"{AUTH}/refresh", json={"refresh_token": "x"})).status_code == 401
