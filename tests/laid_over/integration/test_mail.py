"""Tests how e-mails are sent: by a real SMTP server, or into a folder."""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from app.models.base import now
from app.models.job import BackgroundJob, JobStatus
from app.services.email import mailer
from app.services.jobs import worker
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.integration.conftest import InProcess, Project
from tests.letterbox import Mailbox, kept, mailbox, token_in

VERIFY, ALICE = "/api/v1/auth/email/verify", "alice@example.com"


@pytest.fixture
async def box() -> AsyncGenerator[Mailbox]:
    async with mailbox() as box:
        yield box


async def test_what_a_server_refuses_for_a_moment_is_sent_again(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PAUSES", (0.0,))
    async with mailbox(refusals=2) as box, running(make_settings(smtp_url=box.url)) as app:
        async with client_for(app) as client:
            await sign_in(client, ALICE)
        await app.state.worker.drain()
        assert len(box.messages) == 1


async def test_what_cannot_be_delivered_is_kept_and_logged_without_its_token(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "PAUSES", (0.0,))
    async with running(make_settings(smtp_url="smtp://127.0.0.1:1")) as app, client_for(app) as client:
        await sign_in(client, ALICE)
        await app.state.worker.drain()
        async with app.state.database.read() as session:
            kept = (await session.scalars(select(BackgroundJob))).one()
    assert (kept.status, kept.attempts, kept.error) == (JobStatus.failed, 6, "SMTPConnectError")
    asked = {"kind": "verify", "email": ALICE, "user_id": str(kept.user_id), "notice": "", "is_counted": False}
    assert kept.arguments == {"request": asked}
    said = capfd.readouterr().err
    assert "job failed" in said
    assert "token=" not in said


async def test_tls_that_is_asked_for_is_not_done_without(make_settings: MakeSettings, box: Mailbox) -> None:
    for scheme in ("smtps", "smtp+starttls"):
        async with running(make_settings(smtp_url=box.url.replace("smtp", scheme))) as app, client_for(app) as client:
            await sign_in(client, f"{scheme.replace('+', '')}@example.com")
            await app.state.worker.drain()
    assert box.messages == []


async def test_a_server_can_be_tried_without_a_letter(box: Mailbox) -> None:
    await mailer.SmtpMailer(box.url).check()
    assert box.messages == []


async def test_what_a_stopping_application_has_begun_to_deliver_is_delivered(
    make_settings: MakeSettings, box: Mailbox
) -> None:
    box.open.clear()
    async with running(make_settings(smtp_url=box.url), is_server=True) as app, client_for(app) as client:
        await sign_in(client, ALICE)
        async with asyncio.timeout(20):
            await box.reached.wait()
        asyncio.get_running_loop().call_later(0.2, box.open.set)  # when the application is already stopping
    assert len(box.messages) == 1


async def test_what_a_stopping_application_did_not_deliver_is_delivered_by_the_next(
    make_settings: MakeSettings, box: Mailbox
) -> None:
    lost = make_settings(smtp_url="smtp://127.0.0.1:1", shutdown_grace_seconds=0.1)
    async with running(lost, is_server=True) as app, client_for(app) as client:
        await sign_in(client, ALICE)
    async with running(make_settings(smtp_url=box.url)) as app:
        async with app.state.database.write() as session:
            await session.execute(update(BackgroundJob).values(run_at=now()))
        await app.state.worker.drain()
    assert [message["To"] for message in box.messages] == [ALICE]


@pytest.mark.parametrize(("environment", "shown"), [("local", True), ("production", False)])
async def test_without_a_server_mail_goes_to_a_folder(
    make_settings: MakeSettings, tmp_path: Path, capfd: pytest.CaptureFixture[str], environment: str, shown: bool
) -> None:
    async with running(make_settings(environment=environment)) as app, client_for(app) as client:
        headers = await sign_in(client, ALICE)
        await app.state.worker.drain()
        [message] = kept(tmp_path / "mailbox")
        assert message["To"] == ALICE
        client.headers.update(headers)
        assert (await client.post(VERIFY, json={"token": token_in(message)})).status_code == 204
    [path] = (tmp_path / "mailbox").iterdir()
    assert os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o600
    said = capfd.readouterr()
    assert ("token=" in said.err + said.out) is shown


@pytest.mark.parametrize("email", ["zoë@example.com", "ada@größe.example", "o'hara+bot@example.com"])
async def test_any_address_can_be_written_to(make_settings: MakeSettings, tmp_path: Path, email: str) -> None:
    async with running(make_settings()) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, email))
        await app.state.worker.drain()
        [message] = kept(tmp_path / "mailbox")
        assert (await client.post(VERIFY, json={"token": token_in(message)})).status_code == 204


def test_emails_can_be_seen_before_anybody_gets_them(in_process: InProcess, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    said = in_process.succeed("emails", "preview", "--folder", str(folder))
    pages = {path.stem: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert set(pages) >= {"verify", "reset", "change", "notice"}
    for name, page in pages.items():
        assert f"Wrote {folder / name}.html" in said
        assert "#token=sample-token" in page or name == "notice"
    assert "Subject: " in said
    assert in_process.succeed("emails", "preview", "reset", "--folder", str(folder)).count("Subject: ") == 1


def test_a_preview_that_is_not_possible_is_a_sentence(in_process: InProcess, tmp_path: Path) -> None:
    assert in_process.fail("emails", "preview", "nonsense").startswith("There is no e-mail nonsense; there are change,")
    (tmp_path / "a file").touch()
    assert "cannot be written" in in_process.fail("emails", "preview", "--folder", str(tmp_path / "a file"))


BROKEN = {
    "{% if %}": "line 2: Expected an expression, got 'end of statement block'.",
    "{{ lnk }}": "line 2: 'lnk' is undefined.",
    "{% if customer %}{% endif %}": "line 2: 'customer' is undefined.",
    "{{ minutes + token }}": "line 2: unsupported operand type(s) for +: 'int' and 'str'.",
    '{% include "lnik.html" %}': "line 2: there is no template lnik.html.",
}


def test_a_broken_template_is_named_with_its_line(in_process: InProcess) -> None:
    process = Project(in_process.folder)
    page = process.folder / "app/services/email/templates/reset.html"
    for text, sentence in BROKEN.items():
        page.write_text(f"<p>\n{text}", encoding="utf-8")
        assert process.fail("emails", "preview", "reset") == f"{page}, {sentence}"
    page.write_bytes(b"\xff")
    assert process.fail("emails", "preview", "reset").startswith("The e-mail reset: 'utf-8' codec can't decode")
    page.unlink()
    assert process.fail("emails", "preview", "reset") == "The e-mail reset: there is no template reset.html."
