"""Tests rate limits, which are the same in memory and in Redis."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.core import rate_limits
from app.core.errors import SetupError
from app.core.rate_limits import network
from app.main import create_app
from tests.conftest import PASSWORD, MakeSettings, client_for, running, sign_in
from tests.integration.test_errors import assert_problem
from tests.redis_server import URL, Line, own_prefix, reachable

AUTH, ME = "/api/v1/auth", "/api/v1/users/me"
ALICE, WRONG = "alice@example.com", "wrong password"
STORES = ["memory", "redis"] if reachable() else ["memory"]


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest) -> AsyncGenerator[dict[str, Any]]:
    if request.param == "memory":
        yield {}
        return
    async with own_prefix() as prefix:
        yield {"redis_url": URL, "redis_prefix": prefix}


@pytest.fixture
def database_url(migrated_file: Any, tmp_path: Any) -> str:
    """Uses SQLite only, since what is tested here does not depend on the database."""
    path = tmp_path / "app.db"
    path.write_bytes(migrated_file.read_bytes())
    return f"sqlite:///{path}"


async def try_log_in(client: httpx2.AsyncClient, email: str, password: str = WRONG) -> httpx2.Response:
    return await client.post(f"{AUTH}/login", data={"username": email, "password": password})


async def statuses(client: httpx2.AsyncClient, *emails: str) -> list[int]:
    return [(await try_log_in(client, email)).status_code for email in emails]


def from_address(app: FastAPI, address: str) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, client=(address, 1234))
    return httpx2.AsyncClient(transport=transport, base_url="http://test")


def assert_too_many(answer: httpx2.Response, at_most: int) -> None:
    assert_problem(answer, 429, "too_many_requests")
    assert 1 <= int(answer.headers["retry-after"]) <= at_most


async def test_an_address_may_try_so_many_log_ins(make_settings: MakeSettings, store: dict[str, Any]) -> None:
    async with running(make_settings(login_attempts_per_minute=3, **store)) as app, client_for(app) as client:
        assert await statuses(client, "a@example.com", "b@example.com", "c@example.com") == [401] * 3
        assert_too_many(await try_log_in(client, "d@example.com"), 60)
        async with from_address(app, "192.0.2.7") as other:
            assert await statuses(other, "d@example.com") == [401]


async def test_an_account_may_be_tried_so_often_from_anywhere(
    make_settings: MakeSettings, store: dict[str, Any]
) -> None:
    async with running(make_settings(login_failures_per_hour=3, **store)) as app, client_for(app) as client:
        await sign_in(client, ALICE)
        for email in (ALICE, "nobody@example.com"):  # alike, whether the address has an account or not
            for number in range(3):
                async with from_address(app, f"192.0.2.{number}") as other:
                    assert await statuses(other, email.upper()) == [401]
            assert_too_many(await try_log_in(client, f" {email}", PASSWORD), 3600)


async def test_many_at_once_are_no_way_around(make_settings: MakeSettings, store: dict[str, Any]) -> None:
    async with running(make_settings(login_failures_per_hour=15, **store)) as app, client_for(app) as client:
        answers = await asyncio.gather(*(try_log_in(client, ALICE) for _ in range(10)))
        assert sorted(answer.status_code for answer in answers) == [401] * 3 + [429] * 7


@pytest.mark.parametrize(
    "variant", ["ALICE@EXAMPLE.COM", " alice@example.com ", "alice@\N{FULLWIDTH LATIN CAPITAL LETTER E}xample.com"]
)
async def test_another_way_to_write_an_address_is_no_way_around(make_settings: MakeSettings, variant: str) -> None:
    async with running(make_settings(login_failures_per_hour=1)) as app, client_for(app) as client:
        await sign_in(client, ALICE)
        assert await statuses(client, ALICE, variant) == [401, 429]


async def test_a_right_password_starts_the_count_anew(make_settings: MakeSettings, store: dict[str, Any]) -> None:
    async with running(make_settings(login_failures_per_hour=10, **store)) as app, client_for(app) as client:
        await sign_in(client, ALICE)
        for _ in range(3):
            assert await statuses(client, ALICE) == [401]
            assert (await try_log_in(client, ALICE, PASSWORD)).status_code == 200


async def test_a_session_is_no_way_to_guess_the_password(make_settings: MakeSettings, store: dict[str, Any]) -> None:
    async with running(make_settings(login_failures_per_hour=2, **store)) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, ALICE))
        body = {"current_password": "wrong password", "new_password": "another long phrase"}
        assert (await client.post(f"{AUTH}/password/change", json=body)).status_code == 422
        body = {"email": "new@example.com", "password": "wrong password"}
        assert (await client.post(f"{AUTH}/email/change", json=body)).status_code == 422
        assert_too_many(await client.post(f"{AUTH}/email/change", json=body), 3600)


async def test_registrations(make_settings: MakeSettings, store: dict[str, Any]) -> None:
    async with running(make_settings(registrations_per_hour=1, **store)) as app, client_for(app) as client:
        await sign_in(client, ALICE)
        body = {"email": "b@example.com", "password": PASSWORD}
        assert_too_many(await client.post(f"{AUTH}/register", json=body), 3600)


async def test_letters(make_settings: MakeSettings, store: dict[str, Any]) -> None:
    async with running(make_settings(mails_per_hour=2, **store)) as app, client_for(app) as client:
        forgot = f"{AUTH}/password/forgot"
        for _ in range(2):
            assert (await client.post(forgot, json={"email": ALICE})).status_code == 202
        assert_too_many(await client.post(forgot, json={"email": "b@example.com"}), 3600)
        async with from_address(app, "192.0.2.7") as other:
            assert_too_many(await other.post(forgot, json={"email": ALICE}), 3600)
            assert (await other.post(forgot, json={"email": "c@example.com"})).status_code == 202


@pytest.mark.parametrize(
    ("path", "body"),
    [("email/verify", {"token": "x"}), ("password/reset", {"token": "x", "password": "another long phrase"})],
)
async def test_mailed_tokens(
    make_settings: MakeSettings, store: dict[str, Any], path: str, body: dict[str, str]
) -> None:
    async with running(make_settings(login_attempts_per_minute=1, **store)) as app, client_for(app) as client:
        assert (await client.post(f"{AUTH}/{path}", json=body)).status_code == 422
        assert_too_many(await client.post(f"{AUTH}/{path}", json=body), 60)


async def test_requests_of_a_user_from_wherever(make_settings: MakeSettings, store: dict[str, Any]) -> None:
    async with running(make_settings(requests_per_minute=3, **store)) as app, client_for(app) as client:
        headers = await sign_in(client, ALICE)
        for _ in range(3):
            assert (await client.get(ME, headers=headers)).status_code == 200
        async with from_address(app, "192.0.2.7") as other:
            assert_too_many(await other.get(ME, headers=headers), 60)
        bob = await sign_in(client, "bob@example.com")
        assert (await client.get(ME, headers=bob)).status_code == 200


async def test_zero_is_no_limit(make_settings: MakeSettings, store: dict[str, Any]) -> None:
    async with running(make_settings(**store)) as app, client_for(app) as client:
        assert await statuses(client, *[ALICE] * 70) == [401] * 70


@pytest.mark.parametrize(
    ("trusted", "blocked"), [([], [401, 429, 429]), (["127.0.0.1"], [401, 401, 429]), (["10.0.0.1"], [401, 429, 429])]
)
async def test_only_a_trusted_proxy_says_who_calls(
    make_settings: MakeSettings, trusted: list[str], blocked: list[int]
) -> None:
    settings = make_settings(login_attempts_per_minute=1, trusted_proxies=trusted)
    async with running(settings) as app, client_for(app) as client:
        answers = [
            await client.post(
                f"{AUTH}/login",
                data={"username": ALICE, "password": PASSWORD},
                headers={"X-Forwarded-For": f"{forged}, {true}"},
            )
            for forged, true in (("1.1.1.1", "192.0.2.1"), ("1.1.1.2", "192.0.2.2"), ("1.1.1.3", "192.0.2.2"))
        ]
        assert [answer.status_code for answer in answers] == blocked


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("testclient", "testclient"),
    ],
)
def test_an_ipv6_network_is_one_caller(address: str, counted: str) -> None:
    assert network(address) == counted


@pytest.fixture
async def line() -> AsyncGenerator[Line]:
    line = Line()
    await line.mend()
    yield line
    await line.cut()


@pytest.mark.skipif("redis" not in STORES, reason="needs Redis, and REQUIRE_SERVICES=1 makes its absence an error")
async def test_without_redis_nobody_is_locked_out_and_no_gate_stands_open(
    make_settings: MakeSettings, line: Line, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async with own_prefix() as prefix:
        settings = make_settings(login_failures_per_hour=10, redis_url=line.url, redis_prefix=prefix)
        async with running(settings) as app, client_for(app) as client:
            assert await statuses(client, ALICE, ALICE, ALICE) == [401, 401, 429]
            await line.cut()
            assert await statuses(client, ALICE, ALICE, ALICE) == [401, 401, 429]
            assert await statuses(client, "bob@example.com") == [401]
            assert (await client.get("/health/ready")).json()["checks"]["redis"] == "down"
            assert capfd.readouterr().err.count("redis is down") == 1
            await line.mend()
            monkeypatch.setattr(rate_limits, "monotonic", lambda: float("inf"))
            assert await statuses(client, ALICE) == [429]
            assert (await client.get("/health/ready")).json()["checks"]["redis"] == "ok"


async def test_a_redis_that_was_never_there_is_said_at_start(make_settings: MakeSettings) -> None:
    app = create_app(make_settings(redis_url="redis://:hunter2@127.0.0.1:1/0"))
    with pytest.raises(SetupError) as error:
        async with app.router.lifespan_context(app):
            pass
    assert str(error.value) == "Redis cannot be used (ConnectionError): start it or correct REDIS_URL."
