from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI

from app.repositories.conversation import ConversationRepository, Reach
from app.services.ai import AssistantMessage, UserMessage
from tests.chats import CONVERSATIONS, SEND, STREAM, Scripted, messages, stream
from tests.conftest import MakeSettings
from tests.counting import statements


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
    of_branch = {"parent_id": stored["items"][0]["id"], "siblings": [reply["id"]]}
    assert stored["items"][1] == reply | of_branch | {"parts": [{"type": "text", "text": reply["content"]}]}


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
    assert model.heard[1] == [UserMessage("one"), AssistantMessage("Yes, indeed."), UserMessage("two")]


async def test_history_is_the_newest_that_fits(
    monkeypatch: pytest.MonkeyPatch, app: FastAPI, alice: httpx2.AsyncClient, model: Scripted
) -> None:
    app.state.chat_settings = app.state.chat_settings.model_copy(update={"history_max_tokens": 10})
    id = (await alice.post(SEND, json={"content": "x" * 60})).json()["conversation_id"]
    for content in ("one", "two"):
        await alice.post(SEND, json={"content": content, "conversation_id": id})
    assert [line.text for line in model.heard[2]] == ["one", "Yes, indeed.", "two"]


async def test_history_that_cannot_fit_is_not_even_read(
    app: FastAPI, alice: httpx2.AsyncClient, model: Scripted
) -> None:
    model.pieces = ("x" * 10,)
    id = (await alice.post(SEND, json={"content": "y" * 10})).json()["conversation_id"]
    for _ in range(3):
        await alice.post(SEND, json={"content": "y" * 10, "conversation_id": id})
    me = UUID((await alice.get("/api/v1/users/me")).json()["id"])
    async with app.state.database.read() as session:
        conversations = ConversationRepository(session, me)
        for characters, positions in (
            (0, [8]),
            (9, [8]),
            (10, [8, 7]),
            (35, [8, 7, 6, 5]),
            (1_000, [*range(8, 0, -1)]),
        ):
            newest = await conversations.newest(UUID(id), Reach(200, characters))
            assert [said.position for said in newest] == positions


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
        assert answer.json()["errors"][0]["message"] == "the text must not contain half of a surrogate pair"


@pytest.mark.parametrize("content", ["x" * 32_000, "line\nbreak\r\nand \u2028", "event: fake\n\ndata: {}", "🦜" * 500])
async def test_any_text_survives_the_stream(alice: httpx2.AsyncClient, app: FastAPI, content: str) -> None:
    app.state.replies._ai = Scripted(content[:7], content[7:])
    created, *_deltas, completed = await stream(alice, content)
    assert created.data["user_message"]["content"] == content
    assert completed.data["message"]["content"] == content


async def test_a_message_costs_few_statements_however_long_the_conversation(
    alice: httpx2.AsyncClient, app: FastAPI
) -> None:
    id = (await alice.post(SEND, json={"content": "one"})).json()["conversation_id"]
    for _ in range(5):
        await alice.post(SEND, json={"content": "more", "conversation_id": id})
    with statements(app) as found:
        await alice.post(SEND, json={"content": "last", "conversation_id": id})
    # authentication; account, lock, history, reservation, balance, two messages, conversation;
    # account, settle, release, usage
    assert len(found) == 12, found


async def test_info_names_the_feature_and_its_limit(client: httpx2.AsyncClient) -> None:
    info = (await client.get("/api/v1/info")).json()
    assert "chat" in info["features"]
    assert info["limits"]["message_characters"] == 32_000
    assert info["models"] == ["demo"]


async def test_a_model_may_be_asked_for_if_it_is_allowed(alice: httpx2.AsyncClient) -> None:
    reply = (await alice.post(SEND, json={"content": "What is up?", "model": "demo"})).json()
    assert reply["usage"] == {
        "model": "demo",
        "input_tokens": 8,  # including the instructions
        "output_tokens": len(reply["content"].split()),
        "cost": "0",
    }
    for path in (SEND, STREAM):
        answer = await alice.post(path, json={"content": "What is up?", "model": "gpt-5"})
        assert (answer.status_code, answer.json()["detail"]) == (422, "The model gpt-5 cannot be used here; use demo.")
    assert len((await alice.get(CONVERSATIONS)).json()["items"]) == 1


async def test_a_reply_that_was_long_enough_is_complete_and_says_so(alice: httpx2.AsyncClient, model: Scripted) -> None:
    model.code = "length"
    *_, completed = await stream(alice, "?")
    assert (completed.type, completed.data["message"]["code"]) == ("message.completed", "length")
    assert completed.data["message"]["content"] == "Yes, indeed."


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
