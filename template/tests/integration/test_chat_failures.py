"""What a person keeps when a model fails: with each provider whose SDK is installed, and with none."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

import httpx2
import pytest

from app.main import create_app
from app.services.ai import Line, ModelFailure
from tests.conftest import MakeSettings, client_for, sign_in
from tests.protocols.dialect import KEY, REQUEST_ID, SO_FAR, Dialect, Failure
from tests.protocols.server import Answer, Server, serve
from tests.sse import parse_all

SEND, STREAM = "/api/v1/chat/messages", "/api/v1/chat/messages/stream"
FOLDER = Path(__file__).parents[1] / "protocols"
MODULES = [import_module(f"tests.protocols.{path.stem}") for path in sorted(FOLDER.glob("*_*.py"))]
DIALECTS = {found.model: found for module in MODULES for found in vars(module).values() if isinstance(found, Dialect)}
INSTALLED = [dialect for dialect in DIALECTS.values() if dialect.installed]


class Model(Protocol):
    """Does what the test wants, and tells what it was sent last."""

    def fail(self, name: str) -> Failure: ...

    def speak(self, text: str) -> None: ...

    def heard(self) -> str: ...


class Provided:
    """A provider's model, behind its SDK."""

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
    """A model without a provider, for a project that has no provider's SDK."""

    def __init__(self) -> None:
        self._failure = Failure(Answer(), "")
        self._heard: Sequence[Line] = []

    async def stream(self, lines: Sequence[Line]) -> AsyncGenerator[str]:
        self._heard = lines
        if self._failure.text:
            yield self._failure.text
        if self._failure.code:
            raise ModelFailure(self._failure.code, "The model failed.")

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
    """A person who is signed in to an application that uses the model."""
    dialect: Dialect | None = request.param
    for name, value in dialect.environment(server.url).items() if dialect else ():
        monkeypatch.setenv(name, value)
    app = create_app(make_settings(ai_model=dialect.model if dialect else "demo", ai_max_retries=0))
    async with app.router.lifespan_context(app), client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        if dialect:
            yield Chat(client, Provided(dialect, server))
        else:
            app.state.replies._ai = model = Unprovided()
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
