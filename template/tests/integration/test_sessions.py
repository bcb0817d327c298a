import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, event, func, select, update

from app.core.database import Database
from app.models.user import RefreshToken, User, UserSession
from app.services.jobs import worker
from app.services.processes import cleanup
from tests.conftest import PASSWORD, MakeSettings, bearer, log_in, running, sign_in
from tests.integration.test_errors import assert_problem

REFRESH, LOGOUT, SESSIONS = "/api/v1/auth/refresh", "/api/v1/auth/logout", "/api/v1/auth/sessions"
ME = "/api/v1/users/me"
ALICE = "alice@example.com"


@pytest.fixture
def database(app: FastAPI) -> Database:
    return app.state.database


@pytest.fixture
async def tokens(alice: httpx2.AsyncClient, client: httpx2.AsyncClient) -> dict[str, Any]:
    """Opens a second session for alice, whose client does not use it, and returns its tokens."""
    return await log_in(client, ALICE)


async def renew(client: httpx2.AsyncClient, tokens: dict[str, Any]) -> httpx2.Response:
    return await client.post(REFRESH, json={"refresh_token": tokens["refresh_token"]})


async def is_in(client: httpx2.AsyncClient, tokens: dict[str, Any]) -> bool:
    return (await client.get(ME, headers=bearer(tokens["access_token"]))).status_code == 200


async def age(database: Database, seconds: float) -> None:
    """Moves the time at which tokens were replaced into the past by so many seconds."""
    async with database.write() as session:
        earlier = datetime.now(UTC) - timedelta(seconds=seconds)
        await session.execute(
            update(RefreshToken).where(RefreshToken.rotated_at.is_not(None)).values(rotated_at=earlier)
        )


async def sessions(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    return (await client.get(SESSIONS)).json()["items"]


async def test_a_session_goes_on_with_new_tokens(client: httpx2.AsyncClient, tokens: dict[str, Any]) -> None:
    answer = await renew(client, tokens)
    assert answer.status_code == 200
    assert answer.json().keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert answer.json()["refresh_token"] != tokens["refresh_token"]
    assert answer.headers["cache-control"] == "no-store"
    assert await is_in(client, answer.json())
    assert (await renew(client, answer.json())).status_code == 200


async def test_of_two_at_once_one_wins_and_the_other_ends_nothing(
    client: httpx2.AsyncClient, tokens: dict[str, Any]
) -> None:
    answers = await asyncio.gather(*(renew(client, tokens) for _ in range(8)))
    [won] = [answer for answer in answers if answer.status_code == 200]
    lost = [answer for answer in answers if answer is not won]
    assert {(answer.status_code, answer.json()["code"]) for answer in lost} == {(401, "refresh_superseded")}
    assert await is_in(client, won.json())
    assert (await renew(client, won.json())).status_code == 200


async def test_a_token_that_is_used_again_later_ends_the_session(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient, tokens: dict[str, Any], database: Database
) -> None:
    newest = (await renew(client, tokens)).json()
    await age(database, 11)
    answer = await renew(client, tokens)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not await is_in(client, newest)
    assert (await renew(client, newest)).status_code == 401
    assert len(await sessions(alice)) == 1  # the session of her own client stays open


async def test_an_ancestor_of_the_newest_token_ends_the_session_too(
    client: httpx2.AsyncClient, tokens: dict[str, Any], database: Database
) -> None:
    newest = tokens
    for _ in range(3):
        newest = (await renew(client, newest)).json()
    await age(database, 11)
    assert (await renew(client, tokens)).status_code == 401
    assert not await is_in(client, newest)


@pytest.mark.parametrize("token", ["nonsense", "x" * 43, "\N{SNOWMAN}", "nul\0"])
async def test_a_refresh_token_that_nobody_was_given(client: httpx2.AsyncClient, token: str) -> None:
    answer = await client.post(REFRESH, json={"refresh_token": token})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_an_access_token_renews_nothing_and_a_refresh_token_opens_nothing(
    client: httpx2.AsyncClient, tokens: dict[str, Any]
) -> None:
    answer = await client.post(REFRESH, json={"refresh_token": tokens["access_token"][:200]})
    assert answer.status_code == 401
    assert (await client.get(ME, headers=bearer(tokens["refresh_token"]))).status_code == 401


async def test_tokens_are_stored_hashed(tokens: dict[str, Any], database: Database) -> None:
    async with database.read() as session:
        stored = (await session.scalars(select(RefreshToken.hashed_token))).all()
    assert tokens["refresh_token"] not in stored
    assert all(len(hashed) == 64 for hashed in stored)


async def test_logging_out_ends_access_and_renewal_at_once(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient, tokens: dict[str, Any]
) -> None:
    assert (await client.post(LOGOUT, headers=bearer(tokens["access_token"]))).status_code == 204
    assert not await is_in(client, tokens)
    assert (await renew(client, tokens)).status_code == 401
    assert (await alice.get(ME)).status_code == 200


async def test_sessions_are_listed_with_their_device(alice: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    client.headers["User-Agent"] = "Telephone " + "x" * 500
    tokens = await log_in(client, ALICE)
    newest, own = await sessions(alice)
    assert newest.keys() == {"id", "user_agent", "created_at", "last_used_at", "expires_at", "current"}
    assert newest["user_agent"].startswith("Telephone xxx")
    assert (newest["current"], own["current"]) == (False, True)
    assert await is_in(client, tokens)


async def test_a_session_can_be_ended_from_another(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient, tokens: dict[str, Any]
) -> None:
    [other] = [found for found in await sessions(alice) if not found["current"]]
    assert (await alice.delete(f"{SESSIONS}/{other['id']}")).status_code == 204
    assert not await is_in(client, tokens)
    assert (await renew(client, tokens)).status_code == 401
    assert (await alice.delete(f"{SESSIONS}/{other['id']}")).status_code == 404


async def test_last_use_is_noted_now_and_then(alice: httpx2.AsyncClient, database: Database) -> None:
    [before] = await sessions(alice)
    [again] = await sessions(alice)
    assert again["last_used_at"] == before["last_used_at"]
    async with database.write() as session:
        await session.execute(update(UserSession).values(last_used_at=datetime.now(UTC) - timedelta(minutes=6)))
    await alice.get(ME)
    [after] = await sessions(alice)
    assert after["last_used_at"] > before["last_used_at"]


async def test_who_is_calling_is_one_query(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    asked: list[str] = []
    engine = app.state.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda _1, _2, statement, *_: asked.append(statement))
    assert (await alice.get(ME)).status_code == 200
    [statement] = asked
    assert statement.startswith("SELECT users.id, users.email")


async def test_a_token_ends_with_its_session(alice: httpx2.AsyncClient, database: Database) -> None:
    assert (await alice.get(ME)).status_code == 200
    async with database.write() as session:
        await session.execute(delete(UserSession))
    assert (await alice.get(ME)).status_code == 401


async def test_a_session_that_expired(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient, tokens: dict[str, Any], database: Database
) -> None:
    async with database.write() as session:
        await session.execute(update(UserSession).values(expires_at=datetime.now(UTC)))
    assert (await alice.get(ME)).status_code == 401
    assert (await renew(client, tokens)).status_code == 401


async def test_a_deactivated_user_renews_nothing(
    client: httpx2.AsyncClient, tokens: dict[str, Any], database: Database
) -> None:
    async with database.write() as session:
        await session.execute(update(User).values(is_active=False))
    assert (await renew(client, tokens)).status_code == 401


async def test_a_session_ends_at_the_latest_when_the_setting_says(
    client: httpx2.AsyncClient, tokens: dict[str, Any], database: Database
) -> None:
    async with database.write() as session:
        await session.execute(update(UserSession).values(created_at=datetime.now(UTC) - timedelta(days=179, hours=23)))
    renewed = (await renew(client, tokens)).json()
    async with database.read() as session:
        ends = sorted((await session.scalars(select(UserSession.expires_at))).all())
    assert ends[0] < datetime.now(UTC) + timedelta(hours=2) < ends[1]
    assert renewed["expires_in"] == 1800


async def test_an_access_token_does_not_outlive_its_session(
    client: httpx2.AsyncClient, tokens: dict[str, Any], database: Database
) -> None:
    almost = datetime.now(UTC) - timedelta(days=180) + timedelta(minutes=5)
    async with database.write() as session:
        await session.execute(update(UserSession).values(created_at=almost))
    assert (await renew(client, tokens)).json()["expires_in"] <= 300


async def test_logging_in_again_does_not_end_the_first_session(client: httpx2.AsyncClient) -> None:
    first = await sign_in(client, "a@example.com")
    await sign_in(client, "a@example.com")
    assert (await client.get(ME, headers=first)).status_code == 200


@pytest.fixture
def overtaken(app: FastAPI) -> None:
    """Has another request change the password as soon as one is verified."""
    find_spelling = app.state.passwords.find_spelling

    async def find_slowly(*arguments: Any) -> str | None:
        known = await find_spelling(*arguments)
        async with app.state.database.write() as session:
            await session.execute(update(User).values(hashed_password="another"))
        return known

    app.state.passwords.find_spelling = find_slowly


async def test_a_log_in_that_a_changed_password_overtakes_opens_nothing(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient, overtaken: None
) -> None:
    """Compares the password hash again in the transaction that opens the session."""
    answer = await client.post("/api/v1/auth/login", data={"username": ALICE, "password": PASSWORD})
    assert answer.status_code == 401


async def test_a_changed_password_that_another_overtakes_is_not_stored(
    alice: httpx2.AsyncClient, overtaken: None, database: Database
) -> None:
    body = {"current_password": PASSWORD, "new_password": "another long enough phrase"}
    answer = await alice.post("/api/v1/auth/password/change", json=body)
    assert_problem(answer, 409, "conflict")
    assert answer.json()["detail"] == "The password has just been changed by another request."
    async with database.read() as session:
        assert await session.scalar(select(User.hashed_password)) == "another"


async def test_what_expired_is_cleared(app: FastAPI, alice: httpx2.AsyncClient, tokens: dict[str, Any]) -> None:
    database: Database = app.state.database
    oldest = select(UserSession.id).order_by(UserSession.id).limit(1).scalar_subquery()
    async with database.write() as session:
        await session.execute(update(UserSession).where(UserSession.id == oldest).values(expires_at=datetime.now(UTC)))
    await cleanup.delete_expired(database)
    async with database.read() as session:
        assert await session.scalar(select(func.count(UserSession.id))) == 1
        assert await session.scalar(select(func.count(RefreshToken.id))) == 1
    assert await is_in(alice, tokens)


async def test_an_application_tidies_by_itself(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    tidied, tidy = asyncio.Event(), cleanup.delete_expired

    async def tidy_and_tell(database: Database) -> None:
        await tidy(database)
        tidied.set()

    monkeypatch.setattr(worker, "FIRST_SECONDS", 0)
    monkeypatch.setattr("app.jobs.cleanup.delete_expired", tidy_and_tell)
    async with running(make_settings(), is_server=True), asyncio.timeout(10):
        await tidied.wait()
