"""Tests deleting an account while its owner writes: one of the two waits, and neither causes a server error."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from app.models.user import User
from app.repositories.personal_data import personal_tables
from app.repositories.principal import Principal
from app.repositories.user import UserRepository
from app.services.accounts import account
from app.services.accounts.auth import AuthService
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.integration.test_account import ME, fill, user_id
from tests.owned.case import cases, said

METHODS = {"put", "post", "patch", "delete"}
Request = tuple[str, str, Any]


async def test_what_is_written_beside_a_deletion(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Authenticates all requests first, then deletes the account, and only then lets them write."""
    settings = make_settings(database_pool_size=50)
    async with running(settings, is_server=True) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        writing = Writing(alice, await writes(app, alice))
        writing.watch(monkeypatch)
        assert (await alice.delete(ME)).status_code == 204
        for (method, path, _), answer in zip(writing.requests, await writing.answers(), strict=True):
            assert answer.status_code < 300 or answer.status_code in {401, 404, 409, 503}, (method, path, answer.text)
            if answer.status_code == 503:  # where an optional package is not installed
                assert answer.json()["code"] != "database_unavailable", (method, path, answer.text)
        await app.state.worker.drain()
        for table in personal_tables():
            of_people = table.c.user_id.is_not(None) if "user_id" in table.c else sa.true()
            counted = sa.select(sa.func.count()).select_from(table).where(of_people)
            async with app.state.database.read() as session:
                assert not await session.scalar(counted), table.name


async def writes(app: FastAPI, client: httpx2.AsyncClient) -> list[Request]:
    found: list[Request] = [request for requests in said("WRITES") for request in requests]
    for path, case in cases().items():
        for method in METHODS & app.openapi()["paths"][path].keys():
            found.append((method, await case.make(client), case.bodies.get(method)))
    return found


class Writing:
    """Sends requests that start once the account of their user is locked for its deletion."""

    def __init__(self, client: httpx2.AsyncClient, requests: Sequence[Request]) -> None:
        self.requests = requests
        self._client = client
        self._tasks: list[asyncio.Task[httpx2.Response]] = []
        self._let_in = asyncio.Semaphore(0)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        identify, get = AuthService.identify, UserRepository.get

        async def then_let_in(auth: AuthService, token: str) -> Principal:
            principal = await identify(auth, token)
            self._let_in.release()
            return principal

        async def then_begin(users: UserRepository, id: UUID, *, lock: bool = False) -> User:
            user = await get(users, id, lock=lock)
            if lock and not self._tasks:
                await self._let_in.acquire()  # takes the permit of the request that deletes
                await self._begin()
            return user

        monkeypatch.setattr(AuthService, "identify", then_let_in)
        monkeypatch.setattr(UserRepository, "get", then_begin)

    async def _begin(self) -> None:
        self._tasks = [asyncio.create_task(self._send(*request)) for request in self.requests]
        for _ in self.requests:
            await self._let_in.acquire()

    async def answers(self) -> Sequence[httpx2.Response]:
        async with asyncio.timeout(60):
            return await asyncio.gather(*self._tasks)

    async def _send(self, method: str, path: str, body: Any) -> httpx2.Response:
        return await self._client.request(method, path, json=body)


async def test_a_large_account_goes_a_part_at_a_time(
    app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deletes in transactions of at most `deleted_at_once` rows, so that others can write in between."""
    monkeypatch.setattr(account.PersonalDataRepository, "deleted_at_once", 3)
    await app.state.worker.drain()
    async with app.state.database.write() as session:
        for _ in range(10):
            await fill(session, await user_id(alice))
        await fill(session, await user_id(bob))
    deleted: list[int] = []
    delete_some = account.PersonalDataRepository.delete_some

    async def counted(*arguments: Any) -> int:
        deleted.append(await delete_some(*arguments))
        return deleted[-1]

    monkeypatch.setattr(account.PersonalDataRepository, "delete_some", counted)
    assert (await alice.delete(ME)).status_code == 204
    assert max(deleted) == 3
    assert sum(deleted) >= 10 * (len(personal_tables()) - 4)  # sessions and keys are deleted at once, with their tokens
    async with app.state.database.read() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(User)) == 1
