"""Builds the React examples, and clicks through them in a browser, against a served project."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import node
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from processes import ROOT
from servers import Project, free_port
from sessions import served

pytestmark = [pytest.mark.clients, pytest.mark.slow]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-background-networking"]
WHOLE = re.compile("then start again\\.$")
MILLISECONDS = 20_000


@contextmanager
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        opened = browser.new_page(viewport={"width": 1_100, "height": 800})
        opened.set_default_timeout(MILLISECONDS)
        expect.set_options(MILLISECONDS)
        errors: list[str] = []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        yield opened
        browser.close()
        assert not errors, errors


@contextmanager
def built(name: str, url: str) -> Iterator[str]:
    """Builds an example and serves it; yields its address."""
    folder = node.install(ROOT / "examples" / name)
    node.npm(folder, "run", "build")
    port = free_port()
    command = [node.BIN / "node", folder / "node_modules" / "vite" / "bin" / "vite.js", "preview", "--strictPort"]
    options = [f"--port={port}", "--host=127.0.0.1"]
    with subprocess.Popen(
        [*command, *options], cwd=folder, env=node.environment(API_URL=url), stdout=subprocess.PIPE
    ) as server:
        assert server.stdout
        while b"127.0.0.1" not in (line := server.stdout.readline()):
            assert line, "the page is not served"
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def log_in(at: Page, address: str, password: str = "a long enough phrase") -> None:
    at.goto(address)
    at.get_by_placeholder("E-mail address").fill("ada@example.com")
    at.get_by_placeholder("Password").fill(password)
    at.get_by_role("button", name="Log in").click()


def send(at: Page, text: str) -> None:
    at.get_by_placeholder("Message").fill(text)
    at.get_by_role("button", name="Send").click()


def test_react_ai_sdk(single: Project, tmp_path: Path) -> None:
    with served(single, DEMO_MODEL_DELAY="0.05") as url, built("react-ai-sdk", url) as address, page() as at:
        log_in(at, address, "wrong")
        expect(at.get_by_role("alert")).to_contain_text("password")
        log_in(at, address)
        replies = at.locator("article.assistant")

        send(at, "hello")
        expect(replies).to_have_text(WHOLE)
        at.reload()
        expect(replies).to_have_text(WHOLE)

        send(at, "and stop")
        expect(replies.last).to_contain_text("I am")
        at.get_by_role("button", name="Stop").click()
        expect(at.get_by_role("button", name="Send")).to_be_visible()
        expect(replies.last).not_to_have_text(WHOLE)
        at.get_by_role("button", name="Regenerate").click()
        expect(replies.last).to_have_text(WHOLE)
        expect(replies).to_have_count(2)

        send(at, "and load again")
        expect(replies.nth(2)).to_contain_text("I am")
        at.reload()
        expect(replies.nth(2)).to_have_text(WHOLE)
        expect(replies).to_have_count(3)

        at.get_by_label("Who answers").select_option("Careful")
        send(at, "note it")
        expect(at.get_by_role("group", name="May it call save_note?")).to_contain_text('"note it"')
        at.get_by_placeholder("Message").fill("never mind")
        expect(at.get_by_role("button", name="Send")).to_be_disabled()
        expect(at.get_by_role("button", name="Regenerate")).to_be_disabled()
        at.screenshot(path=tmp_path / "react-ai-sdk.png")
        at.get_by_role("button", name="Approve").click()
        expect(replies.last).to_contain_text("save_note returned: “The note is saved.”")
        send(at, "note that, too")
        at.reload()  # a question that waits is there when the page is loaded again
        expect(at.get_by_label("Who answers").locator("option:checked")).to_have_text("Careful")
        at.get_by_role("button", name="Deny").click()
        expect(replies.last).to_contain_text("The call was denied")


@pytest.mark.deep
def test_assistant_ui(single: Project, tmp_path: Path) -> None:
    with served(single, DEMO_MODEL_DELAY="0.05") as url, built("assistant-ui", url) as address, page() as at:
        log_in(at, address)
        reply = at.locator(".message.assistant .said")
        send(at, "hello")
        expect(reply).to_have_text(WHOLE)
        at.get_by_role("button", name="Regenerate").click()
        expect(at.get_by_text("2 of 2")).to_be_visible()
        expect(reply).to_have_text(WHOLE)
        at.get_by_role("button", name="Edit").click()
        at.get_by_label("Edited message").fill("good morning")
        at.get_by_role("button", name="Save").click()
        expect(reply).to_contain_text("“good morning”")
        expect(reply).to_have_text(WHOLE)
        send(at, "and stop")
        expect(reply.last).to_contain_text("I am")
        at.get_by_role("button", name="Stop").click()
        expect(at.get_by_role("button", name="Send")).to_be_visible()
        at.screenshot(path=tmp_path / "assistant-ui.png")
        listed = at.evaluate(STORED)
        assert [(reply["status"], "good morning" in reply["before"]) for reply in listed] == [
            ("completed", True),
            ("stopped", False),
        ]


STORED = """async () => {
    const headers = { Authorization: `Bearer ${sessionStorage.getItem("token")}` };
    const read = async (path) => (await (await fetch(`/api/v1/chat/conversations${path}`, { headers })).json()).items;
    const [conversation] = await read("");
    const messages = await read(`/${conversation.id}/messages`);
    const told = (reply, number) => ({ status: reply.status, before: messages[number - 1]?.content });
    return messages.map(told).filter((_reply, number) => messages[number].role === "assistant");
}"""
"""Reads the status of each reply of the newest conversation, and the message before it."""
