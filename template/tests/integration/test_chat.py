import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import event, text

from app.services.ai import Line
from tests.conftest import MakeSettings, end_other_connections
from tests.sse import Event, parse_all

SEND, STREAM, CONVERSATIONS = "/api/v1/chat/messages", "/api/v1/chat/messages/stream", "/api/v1/chat/conversations"


async def stream(client: httpx2.AsyncClient, content: str, **more: Any) -> list[Event]:
    answer = await client.post(STREAM, json={"content": content, **more})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    return parse_all(answer.text)


async def messages(client: httpx2.AsyncClient, conversation_id: str, **query: Any) -> dict[str, Any]:
    return (await client.get(f"{CONVERSATIONS}/{conversation_id}/messages", params=query)).json()


class Scripted:
    """A model that says what the test wants and remembers what it was told."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.heard: list[Sequence[Line]] = []

    async def stream(self, lines: Sequence[Line]) -> AsyncGenerator[str]:
        self.heard.append(lines)
        for piece in self.pieces:
            yield piece


@pytest.fixture
def model(app: FastAPI) -> Scripted:
    app.state.replies._ai = model = Scripted("Yes", ", ", "indeed.")
    return model


async def test_a_message_is_answered(alice: httpx2.AsyncClient) -> None:
    answer = await alice.post(SEND, json={"content": "What is up?"})
    reply = answer.json()
    assert answer.status_code == 201
    assert (reply["role"], reply["status"]) == ("assistant", "completed")
    assert "What is up?" in reply["content"]
    stored = await messages(alice, reply["conversation_id"])
    assert [(m["role"], m["status"]) for m in stored["items"]] == [("user", "completed"), ("assistant", "completed")]
    assert stored["items"][1] == reply


async def test_a_streamed_reply_is_what_is_stored(alice: httpx2.AsyncClient) -> None:
    created, *deltas, completed = await stream(alice, "What is up?")
    reply = completed.data["message"]
    assert (created.type, created.id, completed.type) == ("message.created", 0, "message.completed")
    assert created.data["user_message"]["content"] == "What is up?"
    assert {delta.type for delta in deltas} == {"message.delta"}
    assert "".join(delta.data["text"] for delta in deltas) == reply["content"]
    assert created.data["reply_id"] == reply["id"] == deltas[0].data["reply_id"]
    assert [m["id"] for m in (await messages(alice, reply["conversation_id"]))["items"]][1] == reply["id"]


async def test_the_id_of_an_event_is_the_number_of_characters_so_far(
    alice: httpx2.AsyncClient, model: Scripted
) -> None:
    _created, *deltas, completed = await stream(alice, "?")
    text = ""
    for delta in deltas:
        text += delta.data["text"]
        assert delta.id == len(text)
    assert completed.id == len("Yes, indeed.")
    assert all(event.data["type"] == event.type for event in [*deltas, completed])


async def test_a_conversation_goes_on(alice: httpx2.AsyncClient, model: Scripted) -> None:
    first = (await alice.post(SEND, json={"content": "one"})).json()
    second = (await alice.post(SEND, json={"content": "two", "conversation_id": first["conversation_id"]})).json()
    assert second["conversation_id"] == first["conversation_id"]
    assert model.heard[1] == [Line("user", "one"), Line("assistant", "Yes, indeed."), Line("user", "two")]


async def test_history_is_the_newest_that_fits(
    monkeypatch: pytest.MonkeyPatch, app: FastAPI, alice: httpx2.AsyncClient, model: Scripted
) -> None:
    app.state.chat_settings = app.state.chat_settings.model_copy(update={"history_max_tokens": 10})
    id = (await alice.post(SEND, json={"content": "x" * 60})).json()["conversation_id"]
    for content in ("one", "two"):
        await alice.post(SEND, json={"content": content, "conversation_id": id})
    assert [line.text for line in model.heard[2]] == ["one", "Yes, indeed.", "two"]


async def test_a_message_to_nowhere_stores_nothing(alice: httpx2.AsyncClient) -> None:
    for path in (SEND, STREAM):
        answer = await alice.post(path, json={"content": "?", "conversation_id": str(uuid4())})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await alice.get(CONVERSATIONS)).json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"content": ""},
        {"content": None},
        {"content": ["a"]},
        {"content": "nul\0"},
        {"content": " \n"},
        {"content": "x" * 32_001},
        {"content": "a", "role": "system"},
        {"content": "a", "conversation_id": "7"},
    ],
)
async def test_a_message_that_is_refused(alice: httpx2.AsyncClient, body: dict[str, object]) -> None:
    for path in (SEND, STREAM):
        answer = await alice.post(path, json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


async def test_half_a_surrogate_pair_is_no_text(alice: httpx2.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    for path, body in ((SEND, '{"content": "\\ud800"}'), (CONVERSATIONS, '{"title": "\\udfff"}')):
        answer = await alice.post(path, content=body, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["message"] == "half of a surrogate pair is not text"


@pytest.mark.parametrize("content", ["x" * 32_000, "line\nbreak\r\nand \u2028", "event: fake\n\ndata: {}", "🦜" * 500])
async def test_any_text_survives_the_stream(alice: httpx2.AsyncClient, app: FastAPI, content: str) -> None:
    app.state.replies._ai = Scripted(content[:7], content[7:])
    created, *_deltas, completed = await stream(alice, content)
    assert created.data["user_message"]["content"] == content
    assert completed.data["message"]["content"] == content


async def test_an_error_inside_the_service_ends_the_reply_and_keeps_its_text(
    alice: httpx2.AsyncClient, app: FastAPI, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken(Scripted):
        async def stream(self, lines: Sequence[Line]) -> AsyncGenerator[str]:
            yield "so far"
            raise RuntimeError("key sk-hunter2")

    app.state.replies._ai = Broken()
    *_, failed = await stream(alice, "hello")
    assert (failed.type, failed.data["code"]) == ("message.failed", "internal")
    stored = (await messages(alice, failed.data["message"]["conversation_id"]))["items"]
    assert [(m["content"], m["status"]) for m in stored] == [("hello", "completed"), ("so far", "failed")]
    assert "hunter2" not in capfd.readouterr().err


async def test_no_connection_is_held_while_the_model_speaks(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    pool, seen = app.state.database.engine.pool, list[int]()

    class Watching(Scripted):
        async def stream(self, lines: Sequence[Line]) -> AsyncGenerator[str]:
            for piece in ("a", "b"):
                seen.append(pool.checkedout())
                yield piece

    app.state.replies._ai = Watching()
    await stream(alice, "hello")
    assert seen == [0, 0]


async def test_a_message_costs_few_statements_however_long_the_conversation(
    alice: httpx2.AsyncClient, app: FastAPI
) -> None:
    statements: list[str] = []
    engine = app.state.database.engine.sync_engine
    id = (await alice.post(SEND, json={"content": "one"})).json()["conversation_id"]
    for _ in range(5):
        await alice.post(SEND, json={"content": "more", "conversation_id": id})
    event.listen(engine, "before_cursor_execute", lambda _c, _cur, statement, *_: statements.append(statement))
    await alice.post(SEND, json={"content": "last", "conversation_id": id})
    statements = [s for s in statements if not s.startswith("BEGIN")]
    # who is calling; lock, history, two messages, conversation; settle
    assert len(statements) == 6, statements


class Endless(Scripted):
    """Says something, then thinks for as long as it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.thinks, self.go_on = asyncio.Event(), asyncio.Event()

    async def stream(self, lines: Sequence[Line]) -> AsyncGenerator[str]:
        yield "so far"
        self.thinks.set()
        await self.go_on.wait()


async def test_a_shutdown_interrupts_a_reply_and_keeps_its_text(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    app.state.replies._ai = model = Endless()
    reply = asyncio.create_task(stream(alice, "hello"))
    await model.thinks.wait()
    await app.state.replies.finish(0)
    end = (await reply)[-1]
    assert (end.type, end.data["message"]["content"]) == ("message.interrupted", "so far")


async def test_a_shutdown_waits_for_a_reply_that_is_being_stored(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    app.state.replies._ai = model = Endless()
    reply = asyncio.create_task(stream(alice, "hello"))
    await model.thinks.wait()
    async with app.state.database.write() as session:
        await session.execute(text("UPDATE messages SET content = content"))  # PostgreSQL locks rows, SQLite the file
        model.go_on.set()
        finished = asyncio.create_task(app.state.replies.finish(0.05))
        done, _ = await asyncio.wait([finished], timeout=0.2)
        assert not done
    await finished
    assert (await reply)[-1].type == "message.completed"


async def test_a_reply_is_stored_although_its_connections_broke(
    alice: httpx2.AsyncClient, app: FastAPI, database_url: str
) -> None:
    app.state.replies._ai = model = Endless()
    reply = asyncio.create_task(stream(alice, "hello"))
    await model.thinks.wait()
    if database_url.startswith("postgresql"):
        await end_other_connections(database_url)
    model.go_on.set()
    end = (await reply)[-1]
    assert (end.type, end.data["message"]["content"]) == ("message.completed", "so far")


async def test_renaming_and_deleting_at_once(alice: httpx2.AsyncClient) -> None:
    for _ in range(5):
        path = f"{CONVERSATIONS}/{(await alice.post(CONVERSATIONS, json={})).json()['id']}"
        renaming = [alice.patch(path, json={"title": str(n)}) for n in range(6)]
        answers = await asyncio.gather(*renaming[:3], alice.delete(path), *renaming[3:])
        assert {answer.status_code for answer in answers} <= {200, 204, 404}


async def test_conversations_are_made_listed_renamed_and_deleted(alice: httpx2.AsyncClient) -> None:
    made = await alice.post(CONVERSATIONS, json={"title": "Plans"})
    assert made.status_code == 201
    path = f"{CONVERSATIONS}/{made.json()['id']}"
    renamed = await alice.patch(path, json={"title": "New plans"})
    assert renamed.json()["title"] == "New plans"
    assert (await alice.get(path)).json() == renamed.json()
    assert (await alice.delete(path)).status_code == 204
    assert (await alice.get(path)).status_code == 404
    assert (await alice.get(CONVERSATIONS)).json() == {"items": [], "next_cursor": None}


async def test_a_title_is_the_beginning_of_the_first_message(alice: httpx2.AsyncClient) -> None:
    await alice.post(SEND, json={"content": "word \n" * 30})
    [conversation] = (await alice.get(CONVERSATIONS)).json()["items"]
    assert conversation["title"] == ("word " * 30)[:50].strip()


@pytest.mark.parametrize("body", [{"title": ""}, {"title": " "}, {"title": "x" * 201}, {"title": None}, {"name": "x"}])
async def test_a_conversation_that_is_refused(alice: httpx2.AsyncClient, body: dict[str, object]) -> None:
    assert (await alice.post(CONVERSATIONS, json=body)).status_code == 422


async def test_deleting_a_conversation_while_it_is_answered(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    class Deleting(Scripted):
        async def stream(self, lines: Sequence[Line]) -> AsyncGenerator[str]:
            yield "too late"
            [conversation] = (await alice.get(CONVERSATIONS)).json()["items"]
            await alice.delete(f"{CONVERSATIONS}/{conversation['id']}")

    app.state.replies._ai = Deleting()
    *_, end = await stream(alice, "hello")
    assert (end.type, end.data["code"]) == ("message.failed", "conversation_deleted")


async def test_conversations_come_in_pages_newest_first(alice: httpx2.AsyncClient) -> None:
    ids = [(await alice.post(CONVERSATIONS, json={"title": str(n)})).json()["id"] for n in range(5)]
    seen: list[str] = []
    cursor = None
    for _ in range(3):
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await alice.get(CONVERSATIONS, params=params)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert (seen, cursor) == (ids[::-1], None)


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"cursor": "x"}])
async def test_a_page_that_is_refused(alice: httpx2.AsyncClient, query: dict[str, Any]) -> None:
    assert (await alice.get(CONVERSATIONS, params=query)).status_code == 422


async def test_messages_come_in_pages_backwards(alice: httpx2.AsyncClient, model: Scripted) -> None:
    id = (await alice.post(SEND, json={"content": "0"})).json()["conversation_id"]
    for n in range(1, 3):
        await alice.post(SEND, json={"content": str(n), "conversation_id": id})
    newest = await messages(alice, id, limit=4)
    older = await messages(alice, id, limit=4, cursor=newest["next_cursor"])
    assert [m["content"] for m in newest["items"]] == ["1", "Yes, indeed.", "2", "Yes, indeed."]
    assert [m["content"] for m in older["items"]] == ["0", "Yes, indeed."]
    assert older["next_cursor"] is None


async def test_what_is_anothers_does_not_exist(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    id = (await alice.post(SEND, json={"content": "secret"})).json()["conversation_id"]
    path = f"{CONVERSATIONS}/{id}"
    answers = [
        await bob.get(path),
        await bob.patch(path, json={"title": "mine"}),
        await bob.delete(path),
        await bob.get(f"{path}/messages"),
        await bob.post(SEND, json={"content": "hello", "conversation_id": id}),
        await bob.post(STREAM, json={"content": "hello", "conversation_id": id}),
    ]
    assert [answer.status_code for answer in answers] == [404] * 6
    assert (await bob.get(CONVERSATIONS)).json()["items"] == []
    assert len((await messages(alice, id))["items"]) == 2


async def test_a_foreign_cursor_tells_nothing(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    theirs = (await alice.post(SEND, json={"content": "secret"})).json()["id"]
    mine = (await bob.post(SEND, json={"content": "hello"})).json()["conversation_id"]
    assert (await messages(bob, mine, cursor=theirs))["items"] == []


async def test_info_names_the_feature_and_its_limit(client: httpx2.AsyncClient) -> None:
    info = (await client.get("/api/v1/info")).json()
    assert "chat" in info["features"]
    assert info["limits"]["message_characters"] == 32_000


async def test_a_model_that_cannot_be_used_stops_the_start(make_settings: MakeSettings) -> None:
    from app.core.errors import SetupError
    from app.main import create_app

    app = create_app(make_settings(ai_model="nonsense"))
    with pytest.raises(SetupError, match=r"^AI_MODEL=nonsense cannot be used: "):
        async with app.router.lifespan_context(app):
            pass


async def test_an_api_key_for_chat_may_chat_and_one_for_reading_only_reads(
    app: FastAPI, alice: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    assert "chat" in app.state.scopes
    for scope, sent, listed in (("chat", 201, 200), ("read", 403, 200)):
        made = await alice.post("/api/v1/auth/api-keys", json={"name": scope, "scopes": [scope]})
        headers = {"Authorization": f"Bearer {made.json()['key']}"}
        assert (await client.post(SEND, json={"content": "hi"}, headers=headers)).status_code == sent
        assert (await client.get(CONVERSATIONS, headers=headers)).status_code == listed
