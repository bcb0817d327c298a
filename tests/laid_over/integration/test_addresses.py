"""Tests to which address e-mails go, however it is written: a real SMTP server keeps the envelopes."""

from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from app.models.user import User
from tests.conftest import PASSWORD, MakeSettings, client_for, running, sign_in
from tests.letterbox import Mailbox, addresses, mailbox

REGISTER, FORGOT, CHANGE = ("/api/v1/auth/register", "/api/v1/auth/password/forgot", "/api/v1/auth/email/change")
ALICE, ENCODED = "alice@example.com", "=?x?q?x=40evil.test=2c=20?=ceo@example.com"
REFUSED = [
    ENCODED,
    "=?utf-8?b?eEBldmlsLnRlc3QsIA==?=@example.com",
    "x%evil.test@example.com",
    "evil.test!x@example.com",
    "@evil.test:ceo@example.com",
    '"x@evil.test,"@example.com',
    '"x y"@example.com',
    "x@evil.test,ceo@example.com",
    "x(evil)@example.com",
    "ceo@example.com\r\nBcc: x@evil.test",
    "ceo@example.com>\r\nRCPT TO:<x@evil.test",
    "ceo\N{FULLWIDTH COMMERCIAL AT}evil.test@example.com",
    "ceo\N{LINE SEPARATOR}x@example.com",
    "x@[127.0.0.1]",
]
PARTS = (
    *(
        "x",
        "ceo",
        "x@evil.test",
        "evil.test",
        "a.b",
        "zoë",
        "\N{KELVIN SIGN}",
        "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}",
    ),
    *("=?x?q?", "=?utf-8?b?", "?=", "=40", "=2c", "=20", "eEBldmlsLnRlc3Qs", "=?", "?", "=", "%", "!", "'", "`", "{|}"),
    *(
        ",",
        ";",
        ":",
        "(",
        ")",
        "<",
        ">",
        '"',
        "\\",
        " ",
        "\r\n",
        "\t",
        "\0",
        "@",
        "..",
        "/",
        "+",
        "#",
        "$",
        "&",
        "*",
        "~",
    ),
)
DOMAINS = ("example.com", "größe.example", "xn--gre-6ka8l.example", "EXAMPLE.com", "evil.test,example.com")


def nasty(count: int) -> list[str]:
    """Makes addresses of parts that have a meaning to some parser on the way, the same ones in each run."""
    chance = Random(22)  # noqa: S311
    return ["".join(chance.choices(PARTS, k=chance.randint(1, 5))) + "@" + chance.choice(DOMAINS) for _ in range(count)]


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """Uses SQLite only, since what is tested here does not depend on the database."""
    path = tmp_path / "app.db"
    path.write_bytes(migrated_file.read_bytes())
    return f"sqlite:///{path}"


async def register(client: httpx2.AsyncClient, email: str) -> Any:
    """Returns the address that is stored, or None when it was refused."""
    answer = await client.post(REGISTER, json={"email": email, "password": PASSWORD})
    assert answer.status_code in {201, 409, 422}, answer.text
    return answer.json().get("email")


def written_to(box: Mailbox) -> list[str]:
    """Returns the recipient of each e-mail, after asserting that there is only one, the one of the To header."""
    found = [(e.rcpt_tos, addresses(e.content, "To")) for e in box.envelopes if isinstance(e.content, bytes)]
    assert all(len(recipients) == 1 and recipients == read for recipients, read in found), found
    return [recipient for [recipient], _ in found]


async def test_a_letter_goes_to_the_address_that_is_stored_and_to_no_other(make_settings: MakeSettings) -> None:
    async with (
        mailbox(smtputf8=True) as box,
        running(make_settings(smtp_url=box.url)) as app,
        client_for(app) as client,
    ):
        stored = [await register(client, email) for email in [*REFUSED, *nasty(200)]]
        await app.state.worker.drain()
        assert stored[: len(REFUSED)] == [None] * len(REFUSED)
        accepted = [email for email in stored if email]
        assert len(accepted) > 20
        assert sorted(written_to(box)) == sorted(accepted)
        assert {envelope.mail_from for envelope in box.envelopes} == {"noreply@localhost"}


@pytest.mark.parametrize("email", REFUSED[:4])
async def test_an_address_is_changed_to_none_that_names_another(make_settings: MakeSettings, email: str) -> None:
    async with running(make_settings()) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, ALICE))
        answer = await client.post(CHANGE, json={"email": email, "password": PASSWORD})
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


async def test_what_an_earlier_version_stored_gets_no_letter_elsewhere(
    make_settings: MakeSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    async with mailbox() as box, running(make_settings(smtp_url=box.url)) as app, client_for(app) as client:
        await sign_in(client, ALICE)
        await app.state.worker.drain()
        box.envelopes.clear()
        for email, letters in ((ENCODED, []), ("x%evil.test@example.com", ["x%evil.test@example.com"])):
            async with app.state.database.write() as session:
                await session.execute(update(User).values(email=email))
            login = await client.post("/api/v1/auth/login", data={"username": email, "password": PASSWORD})
            assert login.status_code == 200
            assert (await client.post(FORGOT, json={"email": email})).status_code == 202
            await app.state.worker.drain()
            assert written_to(box) == letters
    assert "mail refused" in capfd.readouterr().err


@pytest.mark.parametrize("email", ["zoë@example.com", "ada@größe.example"])
async def test_a_server_that_knows_no_such_address_gets_no_other(
    make_settings: MakeSettings, capfd: pytest.CaptureFixture[str], email: str
) -> None:
    async with mailbox() as box, running(make_settings(smtp_url=box.url)) as app, client_for(app) as client:
        assert await register(client, email) == email
        await app.state.worker.drain()
        assert box.envelopes == []
    assert "SMTPNotSupported" in capfd.readouterr().err


@pytest.mark.parametrize("email", [ALICE, "zoë@example.com"])
@pytest.mark.parametrize(
    "name", ["Größe, Ltd. <x@evil.test>", "=?x?q?x=40evil.test=2c=20?=Bot", 'A "bot", x@evil.test;', "Bot=?=?"]
)
async def test_the_name_of_the_application_is_no_address(make_settings: MakeSettings, name: str, email: str) -> None:
    async with mailbox(smtputf8=True) as box:
        async with running(make_settings(smtp_url=box.url, app_name=name)) as app, client_for(app) as client:
            await register(client, email)
            await app.state.worker.drain()
        assert written_to(box) == [email]
        content = box.envelopes[0].content
        assert isinstance(content, bytes)
        assert addresses(content, "From") == ["noreply@localhost"]


async def test_a_file_in_the_folder_names_the_same_address(make_settings: MakeSettings, tmp_path: Path) -> None:
    emails = [ALICE, "zoë@example.com", "ada@größe.example", "o'hara+bot@example.com"]
    async with running(make_settings()) as app, client_for(app) as client:
        for email in emails:
            await register(client, email)
            await app.state.worker.drain()
    files = sorted((tmp_path / "mailbox").glob("*.eml"))
    assert [addresses(path.read_bytes(), "To") for path in files] == [[email] for email in emails]
