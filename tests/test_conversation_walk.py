"""Tests what a newcomer does with an agent, offline: talk, approve, edit, compare, find, end processes."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import Render
from laid_over.integration.terminal import Terminal
from pages import blocks
from processes import environment
from servers import free_port
from test_pages import SETTINGS, at, prepared

pytestmark = pytest.mark.slow
TOLD = {**SETTINGS, "DEMO_MODEL_DELAY": "0.03"}
ACCOUNT = {"email": "ada@example.com", "password": "a long enough phrase"}
HERON, AGAIN, EGRET = "How much is 2 + 3? Note the heron.", "Where did you note it?", "And 2 + 3? Note the egret."
ENDS = ("message.completed", "message.failed", "message.interrupted", "message.stopped")


@dataclass
class Home:
    """Serves a project by the command of its README, and talks to it as curl does."""

    folder: Path
    port: int = field(default_factory=free_port)
    client: httpx2.Client = field(default_factory=lambda: httpx2.Client(timeout=30))
    server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        [serve] = [
            block.text for block in blocks((self.folder / "README.md").read_text("utf-8")) if " dev" in block.text
        ]
        words = at(self.port)["my-bot dev"]
        command = serve.replace("my-bot dev", words)
        assert words in command
        self.server = subprocess.Popen(
            ("bash", "-c", command), cwd=self.folder, env=environment(**TOLD), start_new_session=True
        )
        self.client.base_url = f"http://127.0.0.1:{self.port}/api/v1/"
        until = time.monotonic() + 30
        while not self.is_reachable():
            assert self.server.poll() is None, "the server ended before it listened"
            assert time.monotonic() < until
            time.sleep(0.05)

    def is_reachable(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self, number: signal.Signals) -> None:
        """Sends a signal to all processes of the server, as a terminal does, and waits until nothing listens."""
        assert self.server
        os.killpg(self.server.pid, number)
        self.server.wait(30)
        while self.is_reachable():
            time.sleep(0.05)

    def restart(self, number: signal.Signals) -> None:
        self.end(number)
        self.start()

    def sign_in(self) -> None:
        self.client.post("auth/register", json=ACCOUNT).raise_for_status()
        form = {"username": ACCOUNT["email"], "password": ACCOUNT["password"]}
        token = self.client.post("auth/login", data=form).raise_for_status().json()["access_token"]
        self.client.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, **params: str) -> Any:
        return self.client.get(path, params=params).raise_for_status().json()

    def make_agent(self) -> str:
        """Makes an agent with two tools, of which one needs an approval."""
        found = {tool["name"]: tool["id"] for tool in self.get("tools", limit="100")["items"]}
        sums, notes = found["calculate"], found["save_note"]
        body = {"name": "Clerk", "model_name": "demo", "tool_ids": [sums, notes], "tool_policies": {sums: "ask"}}
        return self.client.post("agents", json=body).raise_for_status().json()["id"]

    def notes(self) -> int:
        return len(self.get("users/me/export")["agent_notes"])

    def branch(self, conversation_id: str, leaf: str = "") -> list[dict[str, Any]]:
        params = {"leaf": leaf} if leaf else {}
        return self.get(f"chat/conversations/{conversation_id}/messages", **params)["items"]

    def find(self, query: str) -> list[tuple[str, str]]:
        found = self.get("chat/conversations", query=query)["items"]
        return [(conversation["id"], conversation["snippet"]) for conversation in found]


@dataclass
class Reply:
    """Reads one reply over as many connections as it takes."""

    home: Home
    id: str = ""
    conversation_id: str = ""
    question_id: str = ""
    last_id: str = ""
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    texts: dict[int, str] = field(default_factory=dict[int, str])

    def ask(self, question: str, until: str = "approval.requested", **body: str) -> "Reply":
        self._read("POST", "chat/messages/stream", until, json={"content": question, **body})
        return self

    def read(self, until: str) -> None:
        """Goes on where the last connection broke."""
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        self._read("GET", f"chat/messages/{self.id}/stream", until, headers=headers)

    def approve(self) -> None:
        [call] = [part for part in self.stored()["parts"] if part.get("state") == "approval_requested"]
        body = {"tool_call_id": call["tool_call_id"], "approved": True}
        self.home.client.post(f"chat/messages/{self.id}/approvals", json=body).raise_for_status()

    def stored(self) -> dict[str, Any]:
        return self.home.branch(self.conversation_id, self.id)[-1]

    def _read(self, method: str, path: str, until: str, **request: Any) -> None:
        with self.home.client.stream(method, path, **request) as answer:
            answer.raise_for_status()
            event = dict[str, str]()
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name:
                    event[name] = value
                elif "data" in event:
                    self.last_id = event["id"]
                    self._take(json.loads(event["data"]))
                    if event["event"] == until:
                        return
                    assert event["event"] not in ENDS, event
                    event = {}
        raise AssertionError(f"the stream ended before {until}: {self.events}")

    def _take(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        match event["type"]:
            case "message.created":
                self.id, self.conversation_id = event["reply_id"], event["conversation_id"]
                self.question_id = event["user_message"]["id"]
            case "message.delta":
                self.texts[event["part"]] = self.texts.get(event["part"], "") + event["text"]
            case "message.rewound":
                self.texts = {part: text for part, text in self.texts.items() if part < event["part"]}
            case _:
                pass

    def assert_whole(self) -> None:
        """Asserts that what was read is what is stored, and that each tool was called and returned once."""
        stored = self.stored()
        assert stored["status"] == "completed"
        assert "".join(self.texts.values()) == stored["content"] != ""
        assert_called_once(stored)
        counts = Counter((event["type"], event.get("tool_call_id")) for event in self.events)
        for part in stored["parts"]:
            if part["type"] == "tool_call":
                assert [counts[f"tool.{kind}", part["tool_call_id"]] for kind in ("called", "returned")] == [1, 1]


def assert_called_once(reply: dict[str, Any]) -> None:
    calls = [(part["name"], part["state"]) for part in reply["parts"] if part["type"] == "tool_call"]
    assert calls == [("calculate", "returned"), ("save_note", "returned")]
    assert "calculate returned: “5”" in reply["content"]


@pytest.fixture
def home(render: Render) -> Iterator[Home]:
    home = Home(prepared(render()))
    home.start()
    home.sign_in()
    yield home
    assert home.server
    if home.server.poll() is None:
        home.end(signal.SIGTERM)
    home.client.close()


def test_over_http(home: Home) -> None:
    first = Reply(home).ask(HERON, agent_id=home.make_agent())
    home.restart(signal.SIGTERM)
    first.approve()
    first.read("message.delta")
    home.restart(signal.SIGKILL)
    first.read("message.completed")
    first.assert_whole()
    second = Reply(home).ask(AGAIN, conversation_id=first.conversation_id)
    second.approve()
    second.read("message.completed")
    second.assert_whole()
    edit_and_compare(home, first.conversation_id)


def test_in_a_terminal(home: Home) -> None:
    """Talks at the prompt without a server, whose next start goes on with the reply whose terminal was killed."""
    home.make_agent()
    home.end(signal.SIGTERM)
    command = ("bash", "-c", f"exec uv run my-bot chat --user {ACCOUNT['email']} --agent Clerk")
    with Terminal(command, home.folder, environment(**TOLD)) as terminal:
        for question in (HERON, AGAIN):
            terminal.wait_for("> ")
            terminal.type(f"{question}\n")
            terminal.wait_for("[y/N] ")
            terminal.type("y\n")
            terminal.wait_for("calculate: 5")
            terminal.wait_for("save_note: ")
            terminal.wait_for(" returned:" if question is AGAIN else "provider.")
        terminal.kill_all()
    home.start()
    [conversation] = home.get("chat/conversations")["items"]
    _question, _reply, question, reply = home.branch(conversation["id"])
    assert reply["status"] == "pending"
    left = Reply(home, reply["id"], conversation["id"], question["id"])
    left.read("message.completed")
    left.assert_whole()
    edit_and_compare(home, conversation["id"])


def edit_and_compare(home: Home, conversation_id: str) -> None:
    """Edits the first question, ends the server as its reply waits, and reads both branches, also after a restart."""
    question, answer, again, last = home.branch(conversation_id)
    edited = Reply(home).ask(EGRET, replaces=question["id"])
    home.restart(signal.SIGTERM)
    edited.approve()
    edited.read("message.completed")
    edited.assert_whole()

    def view() -> list[Any]:
        branches = [home.branch(conversation_id, leaf) for leaf in ("", edited.id, last["id"])]
        return [*branches, *map(home.find, ("heron", "egret", "stork"))]

    active, new, old, herons, egrets, storks = seen = view()
    assert active == new
    assert [message["content"] for message in new] == [EGRET, edited.stored()["content"]]
    assert [message["id"] for message in old] == [question["id"], answer["id"], again["id"], last["id"]]
    for branch in (new, old):
        assert branch[0]["siblings"] == [question["id"], edited.question_id]
        parents = [None, *(message["id"] for message in branch)]
        assert [message["parent_id"] for message in branch] == parents[:-1]
    for reply in (answer, last, new[1]):
        assert_called_once(reply)
    asked = [reply["usage"]["input_tokens"] for reply in (answer, last)]
    assert asked[1] > asked[0], "the agent was not told what it did before: the second question is shorter"
    for word, found in (("heron", herons), ("egret", egrets)):
        [(id, snippet)] = found
        assert id == conversation_id
        assert re.search(word, snippet)
    assert storks == []
    assert home.notes() == 3
    home.restart(signal.SIGKILL)
    assert view() == seen
    assert home.notes() == 3
