"""Tests how many e-mails an address gets, whatever a user does: a real SMTP server counts them."""

import inspect
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.core.config import ROOT
from app.core.rate_limits import TooManyRequests
from app.models.user import User
from app.services.email.mailer import Outbox
from app.services.email.messages import AccountEmails
from tests.conftest import PASSWORD, MakeSettings, client_for, running, sign_in
from tests.integration.test_errors import assert_problem
from tests.letterbox import Mailbox, mailbox

AUTH, ME = "/api/v1/auth", "/api/v1/users/me"
VICTIM, MOST = "victim@example.com", 3
METHODS = [name for name, _ in inspect.getmembers(AccountEmails, inspect.isfunction) if not name.startswith("_")]
KINDS = [name for name in METHODS if name != "send"]


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """Uses SQLite only, since what is tested here does not depend on the database."""
    path = tmp_path / "app.db"
    path.write_bytes(migrated_file.read_bytes())
    return f"sqlite:///{path}"


async def received(app: FastAPI, box: Mailbox) -> Counter[str]:
    await app.state.worker.drain()
    return Counter(recipient for envelope in box.envelopes for recipient in envelope.rcpt_tos)


async def user_id(app: FastAPI) -> UUID:
    async with app.state.database.read() as session:
        return (await session.scalars(select(User.id))).one()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_letter_of_any_kind_is_counted_for_whom_it_is_to(make_settings: MakeSettings, kind: str) -> None:
    async with mailbox() as box, running(make_settings(smtp_url=box.url, mails_per_hour=MOST)) as app:
        async with client_for(app) as client:
            await client.post(f"{AUTH}/register", json={"email": VICTIM, "password": PASSWORD})
        email = "new@example.com" if kind == "change" else VICTIM
        given = {"user_id": await user_id(app), "email": email, "notice": "It was done."}
        write = getattr(app.state.emails, kind)
        wanted = inspect.signature(write).parameters
        arguments = {name: given[name] for name in wanted if name != "session"}
        for _ in range(MOST + 3):
            with suppress(TooManyRequests):
                if "session" not in wanted:
                    await write(**arguments)
                    continue
                async with app.state.database.write() as session:
                    await write(session, **arguments)
        assert (await received(app, box))[email] == MOST


def test_no_letter_leaves_by_another_way() -> None:
    assert {name for name in vars(Outbox) if not name.startswith("_")} == {"count", "send"}
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "app").rglob("*.py")}
    assert [name for name, text in texts.items() if ".deliver(" in text] == ["mailer.py"]
    assert [name for name, text in texts.items() if "outbox.send(" in text] == ["messages.py"]
    assert [name for name, text in texts.items() if '"send_email"' in text] == ["messages.py"]


async def change_password(client: httpx2.AsyncClient, old: str, new: str) -> int:
    body = {"current_password": old, "new_password": new}
    return (await client.post(f"{AUTH}/password/change", json=body)).status_code


async def test_changing_the_password_again_and_again_bombs_nobody(
    make_settings: MakeSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    async with mailbox() as box, running(make_settings(smtp_url=box.url, mails_per_hour=MOST)) as app:
        async with client_for(app) as client:
            client.headers.update(await sign_in(client, VICTIM))
            passwords = [PASSWORD, "another long phrase"] * 6
            for old, new in pairwise(passwords):
                assert await change_password(client, old, new) == 204
            await app.state.worker.drain()
            assert_problem(await client.post(f"{AUTH}/email/resend"), 429, "too_many_requests")
        assert await received(app, box) == {VICTIM: MOST}
    assert capfd.readouterr().err.count("mail dropped") == 1 + 11 - (MOST - 1)


@pytest.mark.parametrize("tag", ["", "+{}"])
async def test_leaving_and_coming_back_bombs_nobody(make_settings: MakeSettings, tag: str) -> None:
    async with mailbox() as box, running(make_settings(smtp_url=box.url, mails_per_hour=MOST)) as app:
        async with client_for(app) as client:
            for number in range(8):
                email = VICTIM.replace("@", f"{tag.format(number)}@")
                headers = await sign_in(client, email)
                assert (await client.delete(ME, headers=headers)).status_code == 204
                await app.state.worker.drain()
        assert (await received(app, box)).total() <= MOST


async def test_others_still_get_theirs(make_settings: MakeSettings) -> None:
    async with mailbox() as box, running(make_settings(smtp_url=box.url, mails_per_hour=1)) as app:
        async with client_for(app) as client:
            emails = [f"person{number}@example.com" for number in range(5)]
            for email in emails:
                await sign_in(client, email)
        assert await received(app, box) == dict.fromkeys(emails, 1)


async def test_zero_is_no_limit(make_settings: MakeSettings) -> None:
    async with mailbox() as box, running(make_settings(smtp_url=box.url)) as app:
        async with client_for(app) as client:
            await sign_in(client, VICTIM)
        of, database = await user_id(app), app.state.database
        for _ in range(30):
            async with database.write() as session:
                await app.state.emails.notify(session, of, VICTIM, "It was done.")
        assert await received(app, box) == {VICTIM: 31}
