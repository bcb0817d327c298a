"""Tests e-mails, and what their tokens do, with a real SMTP server."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import httpx2
import jwt
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update

from app.core.config import Settings
from app.core.database import Database
from app.models.user import EmailToken, User
from app.services.email.mailer import text_of
from tests.conftest import PASSWORD, SECRET_KEY, MakeSettings, bearer, client_for, log_in, running, sign_in
from tests.counting import statements
from tests.letterbox import Mailbox, mailbox, token_in

AUTH, ME = "/api/v1/auth", "/api/v1/users/me"
ALICE, NEW, OTHER = "alice@example.com", "new@example.com", "another long enough phrase"


@pytest.fixture
async def box() -> AsyncGenerator[Mailbox]:
    async with mailbox() as box:
        yield box


@pytest.fixture
def settings(make_settings: MakeSettings, box: Mailbox) -> Settings:
    return make_settings(
        smtp_url=box.url, mail_from="robot@example.com", app_name="Größe", app_url="https://app.example/"
    )


@pytest.fixture
def letters(app: FastAPI, box: Mailbox) -> "Letters":
    return Letters(app, box)


class Letters:
    """Reads the e-mails that arrived since the last call."""

    def __init__(self, app: FastAPI, box: Mailbox) -> None:
        self._app, self._box = app, box

    async def new(self) -> list[tuple[str, str]]:
        """Returns the recipient and the token of each new e-mail; the token is empty where the e-mail only informs."""
        await self._app.state.worker.drain()
        arrived, self._box.messages = self._box.messages, []
        return [(str(m["To"]), token_in(m) if "#token=" in text_of(m) else "") for m in arrived]

    async def token(self) -> str:
        [(_, token)] = await self.new()
        return token


async def post(client: httpx2.AsyncClient, path: str, **body: Any) -> int:
    return (await client.post(f"{AUTH}/{path}", json=body)).status_code


async def is_verified(client: httpx2.AsyncClient) -> bool:
    return (await client.get(ME)).json()["email_verified"]


async def test_a_new_account_gets_a_letter_that_confirms_it_once(
    app: FastAPI, alice: httpx2.AsyncClient, box: Mailbox
) -> None:
    await app.state.worker.drain()
    [message] = box.messages
    assert (message["To"], message["Subject"]) == (ALICE, "Größe: confirm your address")
    assert message["From"].addresses[0].addr_spec == "robot@example.com"
    assert "https://app.example/verify-email#token=" in text_of(message)
    page = message.get_body(("html",))
    assert page
    assert f'href="https://app.example/verify-email#token={token_in(message)}"' in page.get_content()
    assert not await is_verified(alice)
    assert await post(alice, "email/verify", token=token_in(message)) == 204
    assert await is_verified(alice)
    assert await post(alice, "email/verify", token=token_in(message)) == 422


async def test_only_the_newest_letter_counts(alice: httpx2.AsyncClient, letters: Letters) -> None:
    first = await letters.token()
    assert await post(alice, "email/resend") == 202
    second = await letters.token()
    assert await post(alice, "email/verify", token=first) == 422
    assert await post(alice, "email/verify", token=second) == 204
    assert await post(alice, "email/resend") == 202
    assert await letters.new() == []


async def test_of_many_letters_at_once_one_counts(app: FastAPI, alice: httpx2.AsyncClient, letters: Letters) -> None:
    await asyncio.gather(*(post(alice, "email/resend") for _ in range(8)))
    tokens = [token for _, token in await letters.new()]
    assert len(tokens) == 9
    assert sorted([await post(alice, "email/verify", token=token) for token in tokens]) == [204] + [422] * 8


async def test_a_letter_to_who_has_just_left_is_not_written(
    app: FastAPI, letters: Letters, capfd: pytest.CaptureFixture[str]
) -> None:
    await app.state.emails.reset(ALICE)
    assert await letters.new() == []
    assert "job attempt failed" not in capfd.readouterr().err


async def test_a_forgotten_password_is_replaced_and_everything_ended(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient, letters: Letters
) -> None:
    await letters.new()
    key = (await alice.post(f"{AUTH}/api-keys", json={"name": "A script", "scopes": ["read"]})).json()["key"]
    assert await post(client, "password/forgot", email="Alice@Example.com") == 202
    token = await letters.token()
    assert await post(client, "password/reset", token=token, password="password1") == 422
    assert await post(client, "password/reset", token=token, password=OTHER) == 204
    assert (await alice.get(ME)).status_code == 401
    assert (await client.get(ME, headers=bearer(key))).status_code == 401
    assert await letters.new() == [(ALICE, "")]
    tokens = await log_in(client, ALICE, OTHER)
    assert (await client.get(ME, headers=bearer(tokens["access_token"]))).json()["email_verified"]
    assert await post(client, "password/reset", token=token, password=PASSWORD) == 422


async def test_an_unknown_address_is_answered_alike_and_gets_no_letter(
    app: FastAPI, alice: httpx2.AsyncClient, client: httpx2.AsyncClient, letters: Letters
) -> None:
    """Answers before the address is looked up, so that the response time reveals nothing either."""
    await letters.new()
    with statements(app) as found:
        known = await client.post(f"{AUTH}/password/forgot", json={"email": ALICE})
        of_known = list(found)
        unknown = await client.post(f"{AUTH}/password/forgot", json={"email": "nobody@example.com"})
    assert found == 2 * of_known
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content) == (202, b"null")
    assert [to for to, _ in await letters.new()] == [ALICE]


async def test_a_deactivated_account_gets_no_letter(
    app: FastAPI, alice: httpx2.AsyncClient, client: httpx2.AsyncClient, letters: Letters
) -> None:
    await post(client, "password/forgot", email=ALICE)
    _, (_, token) = await letters.new()
    database: Database = app.state.database
    async with database.write() as session:
        await session.execute(update(User).values(is_active=False))
    assert await post(client, "password/forgot", email=ALICE) == 202
    assert await letters.new() == []
    assert await post(client, "password/reset", token=token, password=OTHER) == 422


async def test_a_new_address_counts_once_it_is_confirmed(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient, letters: Letters
) -> None:
    await letters.new()
    assert await post(alice, "email/change", email=NEW, password="wrong password") == 422
    assert await post(alice, "email/change", email=NEW, password=PASSWORD) == 202
    [(to, token)] = await letters.new()
    assert (to, (await alice.get(ME)).json()["email"]) == (NEW, ALICE)
    assert await post(client, "email/verify", token=token) == 204
    assert (await alice.get(ME)).json()["email"] == NEW
    assert await letters.new() == [(ALICE, "")]
    await log_in(client, NEW)


async def test_an_address_that_another_has_is_not_told(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, letters: Letters
) -> None:
    await letters.new()
    assert await post(alice, "email/change", email="bob@example.com", password=PASSWORD) == 202
    assert await letters.new() == []
    assert await post(alice, "email/change", email=NEW, password=PASSWORD) == 202
    assert await post(bob, "email/change", email=NEW, password=PASSWORD) == 202
    (_, first), (_, second) = await letters.new()
    answers = [await post(alice, "email/verify", token=token) for token in (first, second)]
    assert answers == [204, 409]


async def test_a_changed_password_voids_what_was_mailed(alice: httpx2.AsyncClient, letters: Letters) -> None:
    await letters.new()
    await post(alice, "password/forgot", email=ALICE)
    token = await letters.token()
    await post(alice, "password/change", current_password=PASSWORD, new_password=OTHER)
    assert await post(alice, "password/reset", token=token, password=PASSWORD) == 422


async def test_a_letter_expires(app: FastAPI, alice: httpx2.AsyncClient, letters: Letters) -> None:
    token = await letters.token()
    database: Database = app.state.database
    async with database.write() as session:
        await session.execute(update(EmailToken).values(expires_at=datetime.now(UTC)))
    assert await post(alice, "email/verify", token=token) == 422


async def test_of_two_who_use_a_letter_at_once_one_wins(alice: httpx2.AsyncClient, letters: Letters) -> None:
    token = await letters.token()
    answers = await asyncio.gather(*(post(alice, "email/verify", token=token) for _ in range(4)))
    assert sorted(answers) == [204, 422, 422, 422]


async def test_tokens_are_good_for_one_purpose(alice: httpx2.AsyncClient, letters: Letters) -> None:
    verifies = await letters.token()
    await post(alice, "password/forgot", email=ALICE)
    resets = await letters.token()
    access = alice.headers["authorization"].split()[1]
    assert await post(alice, "password/reset", token=verifies, password=OTHER) == 422
    assert await post(alice, "password/reset", token=access, password=OTHER) == 422
    assert await post(alice, "email/verify", token=resets) == 422
    for token in (verifies, resets):
        assert (await alice.get(ME, headers=bearer(token))).status_code == 401


async def test_a_forged_or_expired_token_is_refused(alice: httpx2.AsyncClient, letters: Letters) -> None:
    token = await letters.token()
    claims = jwt.decode(token, SECRET_KEY, ["HS256"], audience="verify")
    for forged in (
        jwt.encode(claims, "another-key-0123456789-0123456789", "HS256"),
        jwt.encode(claims | {"exp": 1}, SECRET_KEY, "HS256"),
        jwt.encode(claims | {"aud": "reset"}, "x" * 32, "HS256"),
        jwt.encode(claims, "", "none"),
        "nonsense",
    ):
        assert await post(alice, "email/verify", token=forged) == 422
        assert await post(alice, "password/reset", token=forged, password=OTHER) == 422


async def test_unverified_people_may_be_kept_out(make_settings: MakeSettings, box: Mailbox) -> None:
    settings = make_settings(verified_email_required=True, smtp_url=box.url)
    async with running(settings) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, ALICE))
        await app.state.database.ping()
        answer = await client.get("/api/v1/users")
        assert (answer.status_code, answer.json()["code"]) == (403, "email_not_verified")
        assert (await client.get(ME)).status_code == 200
        await app.state.worker.drain()
        assert await post(client, "email/verify", token=token_in(box.messages[0])) == 204
        assert (await client.get("/api/v1/users")).json()["code"] == "forbidden"


async def test_tokens_are_not_stored(app: FastAPI, alice: httpx2.AsyncClient, letters: Letters) -> None:
    token = await letters.token()
    database: Database = app.state.database
    async with database.read() as session:
        assert await session.scalar(select(func.count(EmailToken.id))) == 1
        row = (await session.execute(select(EmailToken.__table__))).one()
    assert token not in repr(row)
