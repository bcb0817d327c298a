"""Tests whose password is hashed next, by counts and order: a user need not wait for many requests of others."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from threading import Semaphore
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.core import security
from tests.conftest import PASSWORD, MakeSettings, client_for, listening, running, sign_in
from tests.integration.test_errors import assert_problem
from tests.integration.test_passwords import Hasher

AUTH, ALICE = "/api/v1/auth", "alice@example.com"
OTHER, WRONG = "another long enough phrase", "wrong password"
AT_ONCE = security.HASHING_THREADS


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """Uses SQLite only, since what is tested here does not depend on the database."""
    path = tmp_path / "app.db"
    path.write_bytes(migrated_file.read_bytes())
    return f"sqlite:///{path}"


class Held(Hasher):
    """Makes one hash for each permit, and keeps the order of the passwords."""

    def __init__(self, hasher: Any) -> None:
        super().__init__(hasher)
        self.permits, self.passwords = Semaphore(0), list[str]()

    def _counted(self, work: Any, *arguments: Any, **more: Any) -> Any:
        self.passwords.append(arguments[-1])
        assert self.permits.acquire(timeout=60)
        return super()._counted(work, *arguments, **more)


@asynccontextmanager
async def held(app: FastAPI) -> AsyncGenerator[Held]:
    argon2 = app.state.passwords._hasher
    argon2._hasher = hasher = Held(argon2._hasher)
    try:
        yield hasher
    finally:
        hasher.permits.release(1_000)


def from_address(app: FastAPI, address: str, headers: dict[str, str]) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, client=(address, 1234))
    return httpx2.AsyncClient(transport=transport, base_url="http://test", headers=headers)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def waiting(app: FastAPI) -> int:
    return len(app.state.passwords._turns._waiting)


async def change(client: httpx2.AsyncClient) -> httpx2.Response:
    body = {"current_password": WRONG, "new_password": OTHER}
    return await client.post(f"{AUTH}/password/change", json=body)


async def ask_for_much(
    app: FastAPI, clients: list[httpx2.AsyncClient], each: int
) -> list[asyncio.Task[httpx2.Response]]:
    """Starts password changes, by each of the clients in turn, and returns them while they wait."""
    before = waiting(app)
    tasks = [asyncio.create_task(change(client)) for _ in range(each) for client in clients]
    await until(lambda: waiting(app) == before + len(tasks) - AT_ONCE)
    return tasks


@pytest.mark.parametrize(("address", "before_her"), [("192.0.2.9", 1), ("127.0.0.1", 4)])
async def test_who_asks_for_much_keeps_nobody_waiting(
    make_settings: MakeSettings, address: str, before_her: int
) -> None:
    """Waits for one hash of the others at her own address, and for one of each account at a shared address."""
    async with running(make_settings()) as app, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_for(app)) for _ in range(5)]
        for number, client in enumerate(clients):
            client.headers.update(await sign_in(client, f"person{number}@example.com"))
        async with held(app) as hasher, from_address(app, address, {}) as her:
            changes = await ask_for_much(app, clients[1:], 10)
            await until(lambda: len(hasher.passwords) == AT_ONCE)
            form = {"username": "person0@example.com", "password": PASSWORD}
            login = asyncio.create_task(her.post(f"{AUTH}/login", data=form))
            await until(lambda: waiting(app) == 40 - AT_ONCE + 1)
            for number in range(before_her + 1):
                hasher.permits.release()
                await until(lambda begun=AT_ONCE + number + 1: len(hasher.passwords) == begun)
            assert PASSWORD in hasher.passwords
            hasher.permits.release(1_000)
            assert (await login).status_code == 200
            assert {answer.status_code for answer in await asyncio.gather(*changes)} == {422}


async def test_of_too_many_the_one_with_most_is_sent_away(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "WAITING_HASHES", 5)
    async with running(make_settings()) as app, client_for(app) as mallory:
        await sign_in(mallory, ALICE)
        mallory.headers.update(await sign_in(mallory, "mallory@example.com"))
        async with held(app) as hasher, from_address(app, "192.0.2.9", {}) as her:
            changes = await ask_for_much(app, [mallory], 5 + AT_ONCE)
            assert_busy(await change(mallory))
            login = asyncio.create_task(her.post(f"{AUTH}/login", data={"username": ALICE, "password": PASSWORD}))
            done, _ = await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                assert_busy(await task)
            hasher.permits.release(1_000)
            assert (await login).status_code == 200
            assert sorted(answer.status_code for answer in await asyncio.gather(*changes)) == [422] * 6 + [503]


def assert_busy(answer: httpx2.Response) -> None:
    assert_problem(answer, 503, "busy")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("path", ["password/change", "email/change", "login", "register"])
async def test_who_has_left_costs_no_hash(make_settings: MakeSettings, path: str) -> None:
    async with running(make_settings()) as app, client_for(app) as client:
        headers = await sign_in(client, ALICE)
        async with listening(app) as url, held(app) as hasher:
            left = [asyncio.create_task(ask(url, path, headers)) for _ in range(8)]
            await until(lambda: waiting(app) == 8 - AT_ONCE and len(hasher.passwords) == AT_ONCE)
            for task in left:
                task.cancel()
            await asyncio.wait(left)
            await until(lambda: waiting(app) == 0)
            hasher.permits.release(1_000)
            await client.post(f"{AUTH}/login", data={"username": ALICE, "password": PASSWORD})
            assert len(hasher.passwords) == AT_ONCE + 1


async def ask(url: str, path: str, headers: dict[str, str]) -> None:
    """Sends the request over a connection that is closed when the task is cancelled."""
    asked = {
        "password/change": {"json": {"current_password": WRONG, "new_password": OTHER}},
        "email/change": {"json": {"email": "new@example.com", "password": WRONG}},
        "login": {"data": {"username": ALICE, "password": PASSWORD}},
        "register": {"json": {"email": "new@example.com", "password": PASSWORD}},
    }[path]
    async with httpx2.AsyncClient(base_url=url, headers=headers) as client:
        await client.post(f"{AUTH}/{path}", **asked)  # pyright: ignore[reportArgumentType]


async def test_a_turn_is_given_back_by_whoever_is_cancelled(make_settings: MakeSettings) -> None:
    async with running(make_settings()) as app, client_for(app) as client:
        headers = await sign_in(client, ALICE)
        client.headers.update(headers)
        async with held(app) as hasher:
            changes = await ask_for_much(app, [client], 6)
            for task in changes:
                task.cancel()
            hasher.permits.release(1_000)
            await asyncio.wait(changes)
            assert waiting(app) == 0
            assert app.state.passwords._turns._free == AT_ONCE
