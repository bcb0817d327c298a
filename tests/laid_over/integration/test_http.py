"""Tests what browsers, proxies and strangers are answered, whatever the path."""

import logging
from typing import Any, cast

import httpx2
import pytest
from fastapi import FastAPI, Request

from tests.conftest import PASSWORD, MakeSettings, bearer, client_for, log_in, running, sign_in
from tests.integration.test_errors import assert_problem

INFO, ME, LOGIN = "/api/v1/info", "/api/v1/users/me", "/api/v1/auth/login"
OURS, OTHERS = "https://app.example", "https://evil.example"


@pytest.fixture
async def settings(make_settings: MakeSettings) -> Any:
    return make_settings(allowed_origins=[OURS])


async def test_only_named_origins_may_read(client: httpx2.AsyncClient) -> None:
    ours = await client.get(INFO, headers={"Origin": OURS})
    assert ours.headers["access-control-allow-origin"] == OURS
    assert "Origin" in ours.headers["vary"]
    for origin in (OTHERS, "null", "https://app.example.evil.example", "http://app.example", f"{OURS}:444"):
        answer = await client.get(INFO, headers={"Origin": origin})
        assert "access-control-allow-origin" not in answer.headers, origin


async def test_only_named_origins_may_ask(client: httpx2.AsyncClient) -> None:
    asks = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization"}
    ours = await client.options(ME, headers={"Origin": OURS, **asks})
    assert (ours.status_code, ours.headers["access-control-allow-origin"]) == (200, OURS)
    others = await client.options(ME, headers={"Origin": OTHERS, **asks})
    assert others.status_code == 400
    assert "access-control-allow-origin" not in others.headers


async def test_no_answer_names_every_origin(client: httpx2.AsyncClient) -> None:
    for path in (INFO, ME, "/nowhere", "/health", "/openapi.json"):
        for origin in (OURS, OTHERS):
            answer = await client.get(path, headers={"Origin": origin, "Cookie": "a=b"})
            assert answer.headers.get("access-control-allow-origin") != "*"


async def test_answers_are_neither_guessed_nor_framed_nor_stored(client: httpx2.AsyncClient) -> None:
    for answer in (await client.get(INFO), await client.get(ME), await client.get("/nowhere")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"


async def test_nobody_is_sent_elsewhere_with_a_token(client: httpx2.AsyncClient) -> None:
    """Redirects nowhere, not even to the same path without a slash, which could be plain HTTP or any host of `Host`."""
    headers = {"Authorization": "Bearer nonsense", "Host": "evil.example"}
    for path in (f"{ME}/", f"{INFO}/", "/api/v1/auth/sessions/", "/health/"):
        answer = await client.get(path, headers=headers)
        assert (answer.status_code, "location" in answer.headers) == (404, False), path


async def test_outside_local_browsers_are_kept_to_https_and_run_nothing(make_settings: MakeSettings) -> None:
    async with running(make_settings(environment="staging")) as app, client_for(app) as client:
        headers = (await client.get(INFO)).headers
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["strict-transport-security"].startswith("max-age=63072000")
        for path in ("/docs", "/redoc", "/openapi.json"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [("api.example", 200), ("a.b.example.org:8443", 200), ("evil.example", 400), ("example.org", 400)],
)
async def test_only_names_that_are_ours(make_settings: MakeSettings, host: str, status: int) -> None:
    settings = make_settings(trusted_hosts=["api.example", "*.example.org"])
    async with running(settings) as app, client_for(app) as client:
        answer = await client.get(INFO, headers={"Host": host})
        assert answer.status_code == status
        if status == 400:
            assert_problem(answer, 400, "bad_request")
        assert (await client.get("/health", headers={"Host": "10.0.0.7"})).status_code == 200


@pytest.mark.parametrize(
    "body", [b"username=%ff&password=%ff", b"username=%00&password=%00", b"\xff=\xff", b"username"]
)
async def test_a_form_that_is_no_text(client: httpx2.AsyncClient, body: bytes) -> None:
    answer = await client.post(LOGIN, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code in (401, 422)


async def test_security_events_say_who_and_from_where(
    client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.security")
    await sign_in(client, "alice@example.com")
    await client.post(LOGIN, data={"username": "alice@example.com", "password": "wrong password"})
    tokens = await log_in(client, "alice@example.com")
    headers = bearer(tokens["access_token"])
    change = {"current_password": PASSWORD, "new_password": "another long enough phrase"}
    await client.post("/api/v1/auth/password/change", json=change, headers=headers)
    await client.post("/api/v1/auth/api-keys", json={"name": "A script", "scopes": ["read"]}, headers=headers)
    await client.post("/api/v1/auth/logout", headers=headers)
    events = security_events(caplog)
    assert [event["event"] for event in events] == [
        "account created",
        "log-in succeeded",
        "log-in failed",
        "log-in succeeded",
        "password changed",
        "API key created",
        "session ended",
    ]
    assert len({event["user_id"] for event in events}) == 1
    assert {event["client"] for event in events} == {"127.0.0.1"}
    assert all(event["request_id"] for event in events)
    said = repr(events)
    for secret in ("alice@example.com", PASSWORD, "wrong password", tokens["access_token"], tokens["refresh_token"]):
        assert secret not in said


async def test_a_failed_log_in_to_an_unknown_address_names_nobody(
    client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await client.post(LOGIN, data={"username": "nobody@example.com", "password": PASSWORD})
    [event] = security_events(caplog)
    assert (event["event"], event["user_id"]) == ("log-in failed", None)


def security_events(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [cast("dict[str, Any]", record.msg) for record in caplog.records if record.name == "app.security"]


@pytest.mark.parametrize(
    ("cookie", "is_seen"), [('a="\\"b"; c=d', True), ('a="' + "\\1" * 15_000 + '"', False), ("\\" * 200, False)]
)
async def test_a_cookie_that_takes_long_to_read_is_not_read(app: FastAPI, cookie: str, is_seen: bool) -> None:
    @app.get("/cookies")
    async def cookies(request: Request) -> str | None:
        return request.headers.get("cookie")

    async with client_for(app, Cookie=cookie) as client:
        assert (await client.get("/cookies")).json() == (cookie if is_seen else None)
