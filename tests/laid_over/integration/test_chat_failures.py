"""Tests what a user keeps when a model fails: with each provider whose SDK is installed, and with none."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx2
import pytest

from app.services.ai import AssistantMessage, ChatMessage, ModelFailure, ModelUsage, Prompt
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.protocols.dialect import KEY, REQUEST_ID, SO_FAR, Dialect, Failure
from tests.protocols.server import Answer, Server, serve
from tests.protocols.spoken import INSTALLED
from tests.sse import parse_all

SEND, STREAM = "/api/v1/chat/messages", "/api/v1/chat/messages/stream"


class Model(Protocol):
    """Answers as the test wants, and returns the last prompt that it was sent."""

    def fail(self, name: str) -> Failure: ...

    def speak(self, text: str) -> None: ...

    def heard(self) -> str: ...


class Provided:
    """Answers through a provider's SDK."""

    def __init__(self, dialect: Dialect, server: Server) -> None:
        self._dialect = dialect
        self._server = server

    def fail(self, name: str) -> Failure:
        failure = self._dialect.failures()[name]
        self._server.will(failure.answer)
        return failure

    def speak(self, text: str) -> None:
        self._server.will(self._dialect.speak(text))

    def heard(self) -> str:
        return str(self._server.requests[-1].body)


class Unprovided:
    """Answers without a provider, for a project that has no provider's SDK."""

    name = "demo"
    has_own_retries = False

    def __init__(self) -> None:
        self._failure = Failure(Answer(), "")
        self._heard: Sequence[ChatMessage] = []

    def ask(self, prompt: Prompt) -> "Unprovided.Said":
        self._heard = prompt.messages
        return self.Said(self._failure)

    def fail(self, name: str) -> Failure:
        self._failure = {
            "cut": Failure(Answer(), "model_disconnected", SO_FAR),
            "key refused": Failure(Answer(), "model_refused_key"),
        }[name]
        return self._failure

    def speak(self, text: str) -> None:
        self._failure = Failure(Answer(), "", text)

    def heard(self) -> str:
        return str(self._heard)

    @dataclass
    class Said:
        failure: Failure
        message = AssistantMessage()
        usage = ModelUsage("demo")

        async def __aiter__(self) -> AsyncGenerator[str]:
            if self.failure.text:
                yield self.failure.text
            if self.failure.code:
                raise ModelFailure(self.failure.code, "The model failed.")


@dataclass(frozen=True)
class Chat:
    client: httpx2.AsyncClient
    model: Model

    async def stored(self, conversation_id: str) -> list[tuple[str, str, str]]:
        path = f"/api/v1/chat/conversations/{conversation_id}/messages"
        items = (await self.client.get(path)).json()["items"]
        return [(item["role"], item["status"], item["content"]) for item in items]


@pytest.fixture
async def server() -> AsyncGenerator[Server]:
    async with serve() as server:
        yield server


@pytest.fixture(params=[*INSTALLED, None], ids=lambda dialect: dialect.model if dialect else "no provider")
async def chat(
    request: pytest.FixtureRequest, server: Server, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Chat]:
    """Yields a signed-in user's client of an application that uses the model."""
    dialect: Dialect | None = request.param
    if dialect:
        dialect.point_at(server.url, monkeypatch)
    settings = make_settings(ai_model=dialect.model if dialect else "demo", ai_max_retries=0)
    async with running(settings) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        if dialect:
            yield Chat(client, Provided(dialect, server))
        else:
            app.state.ai.opened["demo"] = model = Unprovided()
            yield Chat(client, model)


async def test_a_stream_ends_with_the_failure_and_its_text_is_kept(chat: Chat) -> None:
    for name in ("cut", "key refused"):
        failure = chat.model.fail(name)
        answer = await chat.client.post(STREAM, json={"content": "Is it?"})
        created, *deltas, failed = parse_all(answer.text)
        message = failed.data["message"]
        assert (answer.status_code, created.type, failed.type) == (200, "message.created", "message.failed")
        assert "".join(delta.data["text"] for delta in deltas) == message["content"] == failure.text
        assert (failed.id, failed.data["code"]) == (len(failure.text), failure.code)
        assert failed.data["detail"]
        assert message["id"] == created.data["reply_id"]
        assert not any(secret in answer.text for secret in (KEY, REQUEST_ID))
        assert await chat.stored(message["conversation_id"]) == [
            ("user", "completed", "Is it?"),
            ("assistant", "failed", failure.text),
        ]


async def test_without_a_stream_it_is_an_answer_that_says_so_and_the_conversation_goes_on(chat: Chat) -> None:
    failure = chat.model.fail("cut")
    answer = await chat.client.post(SEND, json={"content": "Is it?"})
    reply = answer.json()
    assert (answer.status_code, reply["status"], reply["content"]) == (201, "failed", failure.text)
    chat.model.fail("key refused")
    again = {"conversation_id": reply["conversation_id"], "content": "Really?"}
    assert (await chat.client.post(SEND, json=again)).json()["content"] == ""
    chat.model.speak("It is.")
    assert (await chat.client.post(SEND, json={**again, "content": "Still?"})).json()["status"] == "completed"
    heard = chat.model.heard()
    assert sorted(["Is it?", SO_FAR, "Really?", "Still?"], key=heard.index) == ["Is it?", SO_FAR, "Really?", "Still?"]
    assert [status for _, status, _ in await chat.stored(reply["conversation_id"])] == [
        *("completed", "failed"),
        *("completed", "failed"),
        *("completed", "completed"),
    ]
