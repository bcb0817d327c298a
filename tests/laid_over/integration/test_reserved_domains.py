"""Tests that new addresses are at domains that mail from outside reaches, unless EMAIL_RESERVED_DOMAINS allows them."""

from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from app.models.user import User
from tests.conftest import PASSWORD, MakeSettings, client_for, log_in, running, sign_in
from tests.integration.conftest import InProcess
from tests.letterbox import mailbox

REGISTER, CHANGE, FORGOT = ("/api/v1/auth/register", "/api/v1/auth/email/change", "/api/v1/auth/password/forgot")
ALICE = "alice@example.com"
RESERVED = [
    *("ada@corp.local", "ada@corp.internal", "ada@box.lan", "ada@nas.home", "ada@router.home.arpa"),
    *("ada@10.in-addr.arpa", "ada@files.corp", "ada@x.intranet", "ada@x.private", "ada@host.localdomain"),
    *("ada@x.mail", "ada@x.localhost", "ada@x.invalid", "ada@x.test", "ada@abc.onion", "ada@x.alt"),
    *("Ada@CORP.Internal", "ada@größe.lan", "ada@xn--gre-6ka8i.lan", "ada@corp。internal"),
]
PUBLIC = [
    *("ada@example.com", "ada@acme.example", "ada@internal.example.com", "ada@lan.de", "ada@local.dev"),
    *("ada@mylocal.net", "ada@corp.com", "ada@größe.example", "ada@home.xn--p1ai"),
]


async def register(client: httpx2.AsyncClient, email: str) -> tuple[int, Any]:
    answer = await client.post(REGISTER, json={"email": email, "password": PASSWORD})
    return answer.status_code, answer.json()


@pytest.mark.parametrize("email", RESERVED)
async def test_a_reserved_name_is_refused_with_the_setting_that_allows_it(
    client: httpx2.AsyncClient, email: str
) -> None:
    status, problem = await register(client, email)
    assert (status, problem["code"]) == (422, "reserved_domain")
    assert "EMAIL_RESERVED_DOMAINS" in problem["detail"]


@pytest.mark.parametrize("email", PUBLIC)
async def test_a_public_name_is_accepted(client: httpx2.AsyncClient, email: str) -> None:
    assert (await register(client, email))[0] == 201


@pytest.mark.parametrize("email", ["ada@corp.internal", "ada@box.local"])
async def test_an_address_is_not_changed_to_a_reserved_name(alice: httpx2.AsyncClient, email: str) -> None:
    answer = await alice.post(CHANGE, json={"email": email, "password": PASSWORD})
    assert (answer.status_code, answer.json()["code"]) == (422, "reserved_domain")


@pytest.mark.parametrize("email", ["ada@corp.internal", "ada@box.local"])
def test_the_command_refuses_a_reserved_name(in_process: InProcess, database_url: str, email: str) -> None:
    create = ("users", "create", email)
    sentence = in_process.fail(*create, typed=f"{PASSWORD}\n", DATABASE_URL=database_url)
    assert "EMAIL_RESERVED_DOMAINS" in sentence
    allowed = {"DATABASE_URL": database_url, "EMAIL_RESERVED_DOMAINS": "local, internal"}
    assert in_process.succeed(*create, typed=f"{PASSWORD}\n", **allowed) == f"Created the user {email}.\n"


@pytest.mark.parametrize(
    ("allowed", "accepted", "refused"),
    [
        (["corp.internal"], ["corp.internal", "a.corp.internal", "CORP.internal"], ["internal.corp", "xcorp.internal"]),
        (["Lan", "home.arpa"], ["box.lan", "größe.lan", "a.home.arpa"], ["a.arpa", "a.internal", "b.plan.local"]),
        (["größe.lan"], ["größe.lan", "xn--gre-6ka8i.lan"], ["box.lan"]),
        (["xn--gre-6ka8i.lan"], ["größe.lan"], ["box.lan"]),
    ],
)
async def test_a_name_that_is_allowed_gets_mail_and_others_do_not(
    make_settings: MakeSettings, allowed: list[str], accepted: list[str], refused: list[str]
) -> None:
    async with mailbox(smtputf8=True) as box:
        settings = make_settings(smtp_url=box.url, email_reserved_domains=allowed)
        async with running(settings) as app, client_for(app) as client:
            assert [(await register(client, f"{i}@{domain}"))[0] for i, domain in enumerate(accepted)] == [201] * len(
                accepted
            )
            assert {(await register(client, f"ada@{domain}"))[0] for domain in refused} == {422}
            client.headers.update(await sign_in(client, ALICE))
            body = {"email": f"new@{accepted[0]}", "password": PASSWORD}
            assert (await client.post(CHANGE, json=body)).status_code == 202
            await app.state.worker.drain()
        assert len(box.envelopes) == len(accepted) + 2


@pytest.mark.parametrize("email", ["ada@corp.local", "ada@corp.internal", "ada@x.test"])
async def test_an_account_at_a_reserved_name_stays_usable(make_settings: MakeSettings, email: str) -> None:
    async with mailbox() as box, running(make_settings(smtp_url=box.url)) as app, client_for(app) as client:
        await sign_in(client, ALICE)
        async with app.state.database.write() as session:
            await session.execute(update(User).values(email=email))
        await app.state.worker.drain()
        box.envelopes.clear()
        await log_in(client, email.upper())
        assert (await client.post(FORGOT, json={"email": email})).status_code == 202
        await app.state.worker.drain()
        assert [envelope.rcpt_tos for envelope in box.envelopes] == [[email]]


@pytest.mark.parametrize("email", ["ada@lan", "terminal@localhost", "ada@internal"])
async def test_a_name_without_a_dot_is_no_address_whatever_is_allowed(make_settings: MakeSettings, email: str) -> None:
    async with (
        running(make_settings(email_reserved_domains=["lan", "localhost", "internal"])) as app,
        client_for(app) as client,
    ):
        status, problem = await register(client, email)
        assert (status, problem["code"]) == (422, "validation_error")


@pytest.mark.parametrize("value", ["gmail.com", "*.lan", "@corp.internal", "lan internal", "ada@corp.internal", "."])
def test_what_needs_no_permission_or_is_no_name_stops_the_start(in_process: InProcess, value: str) -> None:
    sentence = in_process.fail("serve", EMAIL_RESERVED_DOMAINS=value)
    assert sentence.startswith("EMAIL_RESERVED_DOMAINS: ")
    assert "reserved" in sentence
