import asyncio
from threading import Lock
from typing import Any

import httpx2
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from sqlalchemy import select

from app.core import security
from app.core.database import Database
from app.models.user import User
from tests.conftest import PASSWORD, MakeSettings, bearer, client_for, log_in, running, sign_in

LOGIN, REGISTER, CHANGE, ME = (
    "/api/v1/auth/login",
    "/api/v1/auth/register",
    "/api/v1/auth/password/change",
    "/api/v1/users/me",
)
ALICE, OTHER = "alice@example.com", "another long enough phrase"


class Hasher:
    """Counts the calls of argon2, and the most that ran at once."""

    def __init__(self, hasher: PasswordHasher) -> None:
        self._hasher, self._lock = hasher, Lock()
        self.calls, self.running, self.most = 0, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hasher, name)

    def hash(self, *arguments: Any, **more: Any) -> str:
        return self._counted(self._hasher.hash, *arguments, **more)

    def verify(self, *arguments: Any) -> bool:
        return self._counted(self._hasher.verify, *arguments)

    def _counted(self, work: Any, *arguments: Any, **more: Any) -> Any:
        with self._lock:
            self.calls, self.running = self.calls + 1, self.running + 1
            self.most = max(self.most, self.running)
        try:
            return work(*arguments, **more)
        finally:
            with self._lock:
                self.running -= 1


@pytest.fixture
def hasher(app: FastAPI) -> Hasher:
    argon2 = app.state.passwords._hasher
    argon2._hasher = counting = Hasher(argon2._hasher)
    return counting


async def try_log_in(client: httpx2.AsyncClient, email: str, password: str) -> int:
    return (await client.post(LOGIN, data={"username": email, "password": password})).status_code


async def change(client: httpx2.AsyncClient, old: str, new: str) -> httpx2.Response:
    return await client.post(CHANGE, json={"current_password": old, "new_password": new})


async def stored_hash(app: FastAPI) -> str:
    database: Database = app.state.database
    async with database.read() as session:
        return (await session.scalars(select(User.hashed_password))).one()


async def test_an_unknown_address_costs_what_a_wrong_password_costs(alice: httpx2.AsyncClient, hasher: Hasher) -> None:
    costs: list[int] = []
    for email in (ALICE, "nobody@example.com", "no address"):
        before = hasher.calls
        assert await try_log_in(alice, email, "wrong password") == 401
        costs.append(hasher.calls - before)
    assert costs == [1, 1, 1]


async def test_a_deactivated_account_costs_the_same(app: FastAPI, alice: httpx2.AsyncClient, hasher: Hasher) -> None:
    database: Database = app.state.database
    async with database.write() as session:
        (await session.scalars(select(User))).one().is_active = False
    assert await try_log_in(alice, ALICE, PASSWORD) == 401
    assert hasher.calls == 1


async def test_few_hashes_are_made_at_once(alice: httpx2.AsyncClient, hasher: Hasher) -> None:
    answers = await asyncio.gather(*(try_log_in(alice, ALICE, PASSWORD) for _ in range(32)))
    assert set(answers) == {200}
    assert 1 <= hasher.most <= security.HASHING_THREADS


@pytest.mark.parametrize("password", ["password", "Password1", "12345678", "QWERTYUIOP", "iloveyou"])
async def test_common_passwords_are_refused(client: httpx2.AsyncClient, password: str) -> None:
    answer = await client.post(REGISTER, json={"email": ALICE, "password": password})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"field": "body.password", "message": "the password is too common; choose another one"}
    ]


async def test_half_a_surrogate_pair_is_no_password(client: httpx2.AsyncClient) -> None:
    content = rb'{"email": "a@example.com", "password": "long enough \ud800"}'
    answer = await client.post(REGISTER, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


async def test_a_hash_is_made_anew_when_its_cost_has_grown(make_settings: MakeSettings) -> None:
    async with running(make_settings()) as app, client_for(app) as client:
        await sign_in(client, ALICE)
        before = await stored_hash(app)
        await log_in(client, ALICE)
        assert await stored_hash(app) == before
    async with running(make_settings(argon2_time_cost=2)) as app, client_for(app) as client:
        assert await try_log_in(client, ALICE, "wrong password") == 401
        assert await stored_hash(app) == before
        await log_in(client, ALICE)
        assert "t=2" in await stored_hash(app)
        await log_in(client, ALICE)


async def test_changing_it_ends_the_other_sessions(alice: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    other = await log_in(client, ALICE)
    assert (await change(alice, PASSWORD, OTHER)).status_code == 204
    assert (await alice.get(ME)).status_code == 200
    assert (await client.get(ME, headers=bearer(other["access_token"]))).status_code == 401
    refreshed = await client.post("/api/v1/auth/refresh", json={"refresh_token": other["refresh_token"]})
    assert refreshed.status_code == 401
    assert await try_log_in(client, ALICE, PASSWORD) == 401
    assert await try_log_in(client, ALICE, OTHER) == 200


async def test_changing_it_needs_the_old_one_and_a_good_one(alice: httpx2.AsyncClient) -> None:
    wrong = await change(alice, "wrong password", OTHER)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "wrong_password")
    for bad in ("short", "password1", "x" * 129):
        assert (await change(alice, PASSWORD, bad)).status_code == 422
    assert await try_log_in(alice, ALICE, PASSWORD) == 200


async def test_of_two_changes_at_once_one_wins(alice: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(change(alice, PASSWORD, f"{OTHER} {n}") for n in range(4)))
    done, *others = sorted(answer.status_code for answer in answers)
    assert done == 204
    assert {*others} <= {409, 422}  # overtaken after its password was verified, or before
