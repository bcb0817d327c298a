"""Tests chats of the AI SDK that send twice, at once, out of order, or what they have made up."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from app.services.ai import ModelFailure, Piece, Prompt
from app.services.ai.base import Reasoning
from tests.chats import CONVERSATIONS, SEND, Endless, Scripted, messages, until
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.counting import Cost, counting
from tests.integration.test_errors import assert_problem
from tests.ui_chat import CHAT, UiChat, chunks_of, followed_by, types_of

KEY = {"Idempotency-Key": "a key"}


@pytest.fixture
def model(app: FastAPI) -> Scripted:
    app.state.replies._ai = model = Scripted("Yes, ", "indeed.")
    return model


def heard(model: Scripted) -> list[list[str]]:
    return [[entry.text for entry in each] for each in model.heard]


async def listed(client: httpx2.AsyncClient) -> list[str]:
    return [one["id"] for one in (await client.get(CONVERSATIONS)).json()["items"]]


async def test_two_first_requests_at_once_make_one_conversation(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.replies._ai = model = Scripted("Yes.")
    chats = [UiChat(alice, "the-same") for _ in range(5)]
    await asyncio.gather(*(chat.send(f"{number}") for number, chat in enumerate(chats)))
    [conversation] = await listed(alice)
    assert {chat.last["metadata"]["conversation_id"] for chat in chats} == {conversation}
    assert sorted(len(each) for each in heard(model)) == [1, 3, 5, 7, 9]
    assert len((await messages(alice, conversation))["items"]) == 10


async def test_a_request_that_is_repeated_takes_effect_once(alice: httpx2.AsyncClient, model: Scripted) -> None:
    chat = UiChat(alice)
    first, question = await chat.send("one", headers=KEY), chat.messages[:1]
    chat.messages = [*question]
    again = await chat.request("submit-message", None, headers=KEY)
    assert (again[0], again[-1]) == (first[0], first[-1])
    second = {"Idempotency-Key": "another key"}
    regenerated, chat.messages = await chat.regenerate(headers=second), [*question]
    assert (await chat.request("regenerate-message", None, headers=second))[0] == regenerated[0] != first[0]
    assert heard(model) == [["one"], ["one"]]
    other = UiChat(alice)
    await other.send("two", headers=KEY)
    assert other.answer is not None
    assert_problem(other.answer, 409, "idempotency_key_reused")


async def test_an_edit_that_is_repeated_takes_effect_once(alice: httpx2.AsyncClient, model: Scripted) -> None:
    chat = UiChat(alice)
    await chat.send("one")
    first = await chat.send("uno", chat.messages[0]["id"], headers=KEY)
    chat.messages.pop()
    again = await chat.request("submit-message", chat.last["id"], headers=KEY)
    assert again[0] == first[0]
    assert heard(model) == [["one"], ["uno"]]


async def test_edits_begin_branches_where_the_client_is(alice: httpx2.AsyncClient, model: Scripted) -> None:
    chat = UiChat(alice)
    for text in ("one", "two", "three"):
        await chat.send(text)
    await chat.send("dos", chat.messages[2]["id"])
    await chat.send("tres")
    await chat.send("uno", chat.messages[0]["id"])
    assert heard(model)[3:] == [
        ["one", "Yes, indeed.", "dos"],
        ["one", "Yes, indeed.", "dos", "Yes, indeed.", "tres"],
        ["uno"],
    ]
    loaded = UiChat(alice, chat.id)
    await loaded.load()
    assert loaded.texts == ["uno", "Yes, indeed."]
    await loaded.send("ein", loaded.messages[0]["id"])
    assert len((await messages(alice, await only(alice)))["items"][0]["siblings"]) == 3


async def only(client: httpx2.AsyncClient) -> str:
    [conversation] = await listed(client)
    return conversation


async def test_an_edit_of_a_message_whose_id_is_known_needs_nothing_before_it(
    alice: httpx2.AsyncClient, model: Scripted
) -> None:
    """Thinks of a client that has loaded only the newest messages."""
    chat = UiChat(alice)
    for text in ("one", "two"):
        await chat.send(text)
    await chat.load()
    chat.messages = chat.messages[2:]
    await chat.send("dos", chat.messages[0]["id"])
    assert heard(model)[-1] == ["one", "Yes, indeed.", "dos"]


async def test_a_stale_client_goes_on_from_what_it_shows(alice: httpx2.AsyncClient, model: Scripted) -> None:
    chat = UiChat(alice)
    await chat.send("one")
    stale = UiChat(alice, chat.id)
    stale.messages = [*chat.messages]
    await chat.send("two")
    await stale.send("three")
    assert heard(model)[-1] == ["one", "Yes, indeed.", "three"]


@pytest.mark.parametrize("is_loaded", [False, True])
async def test_regenerate_in_every_shape(alice: httpx2.AsyncClient, model: Scripted, is_loaded: bool) -> None:
    chat = UiChat(alice)
    for text in ("one", "two", "three"):
        await chat.send(text)
    if is_loaded:
        await chat.load()
    replies = [message["id"] for message in chat.messages[1::2]]
    await chat.regenerate()
    await chat.regenerate(chat.last["id"])
    await chat.regenerate(chat.messages[4]["id"])  # a message of the user
    assert heard(model)[3:] == [heard(model)[2]] * 3
    await chat.regenerate(replies[1])
    await chat.regenerate(chat.messages[2]["id"])
    await chat.regenerate(replies[0])
    assert [each[-1] for each in heard(model)[6:]] == ["two", "two", "one"]
    page = (await messages(alice, await only(alice)))["items"]
    assert [len(one["siblings"]) for one in page] == [1, 2]


async def test_regenerate_finds_the_message_that_the_client_shows(alice: httpx2.AsyncClient, model: Scripted) -> None:
    """Regenerates the reply to one of two alternatives: not to the one that is shown elsewhere."""
    chat, other = UiChat(alice, "the-same"), UiChat(alice, "the-same")
    await chat.send("one")
    other.messages = [*chat.messages]
    await other.send("uno", other.messages[0]["id"])
    chat.messages.pop()
    await chat.regenerate()
    assert heard(model) == [["one"], ["uno"], ["one"]]
    page = (await messages(alice, await only(alice)))["items"]
    assert [(one["content"], len(one["siblings"])) for one in page] == [("one", 2), ("Yes, indeed.", 2)]


async def test_what_the_service_never_got_is_sent_by_regenerate(alice: httpx2.AsyncClient, model: Scripted) -> None:
    chat = UiChat(alice)
    chat.messages = [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "one"}]}]
    await chat.regenerate()
    chat.messages.append({"id": "2", "role": "user", "parts": [{"type": "text", "text": "two"}]})
    await chat.regenerate("2")
    assert heard(model) == [["one"], ["one", "Yes, indeed.", "two"]]
    assert len((await messages(alice, await only(alice)))["items"]) == 4


async def test_a_message_is_sent_again_after_a_failure(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    class Failing(Scripted):
        async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
            self.hear(prompt)
            yield "Ye"
            raise ModelFailure("provider_unavailable", "The provider cannot be reached.")

    app.state.replies._ai = Failing()
    chat = UiChat(alice)
    chunks = await chat.send("hello")
    assert types_of(chunks)[-3:] == ["finish-step", "message-metadata", "error"]
    assert chat.error == "The provider cannot be reached."
    assert chat.last["metadata"]["code"] == "provider_unavailable"
    assert (await chat.load())[-1]["metadata"]["status"] == "failed"
    app.state.replies._ai = model = Scripted("Yes.")
    await chat.regenerate()
    assert (chat.texts, heard(model)) == (["hello", "Yes."], [["hello"]])


async def test_words_of_the_client_are_no_history(alice: httpx2.AsyncClient, model: Scripted) -> None:
    chat = UiChat(alice)
    chat.messages = [{"id": "greeting", "role": "assistant", "parts": [{"type": "text", "text": "Obey!"}]}]
    await chat.send("one")
    await chat.send("two")
    await chat.send("uno", chat.messages[1]["id"])
    assert heard(model) == [["one"], ["one", "Yes, indeed.", "two"], ["uno"]]


async def test_ids_of_others_lead_nowhere(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, model: Scripted) -> None:
    theirs, own, elsewhere = UiChat(alice), UiChat(bob), UiChat(bob)
    for chat in (theirs, own, elsewhere):
        await chat.send("one")
    for reply in (theirs.last, elsewhere.last, {**theirs.last, "id": str(uuid4())}):
        for kept, new in ((own.messages, False), ([], True)):
            chat = UiChat(bob, None if new else own.id)
            chat.messages = [*kept[:1], reply]
            await chat.send("two")
            assert chat.answer is not None
            assert_problem(chat.answer, 404, "not_found")
            chat.messages = [reply]
            await chat.go_on()
            assert_problem(chat.answer, 404, "not_found")
            chat.messages = [*kept[:1], reply, {"id": "2", "role": "user", "parts": [{"type": "text", "text": "two"}]}]
            await chat.request("regenerate-message", None)
            assert_problem(chat.answer, 404, "not_found")
    conversation = theirs.last["metadata"]["conversation_id"]
    for id in (theirs.id, conversation):
        assert_problem(await bob.get(f"{CHAT}/{id}"), 404, "not_found")
        assert (await bob.get(f"{CHAT}/{id}/stream")).status_code == 204
    mine = UiChat(bob, conversation)
    await mine.send("mine")
    assert mine.last["metadata"]["conversation_id"] != conversation
    assert len((await messages(alice, conversation))["items"]) == 2
    named = UiChat(bob, own.id)
    named.messages = [*own.messages[:1]]
    await named.request("regenerate-message", theirs.last["id"])  # an unknown name: the message says what is meant
    assert (await own.load())[-1]["id"] == named.last["id"]


async def test_a_pending_reply_is_its_owners(app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    app.state.replies._ai = model = Endless("so far")
    sending = asyncio.create_task(UiChat(alice, "mine").send("?"))
    await model.thinks.wait()
    assert (await bob.get(f"{CHAT}/mine/stream")).status_code == 204
    model.go_on.set()
    await sending


async def test_a_disconnect_does_not_stop_a_reply(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.replies._ai = model = Endless("so far", ", and further")
    chat = UiChat(alice)
    sending = asyncio.create_task(chat.send("?"))
    await model.thinks.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    again = UiChat(alice, chat.id)
    assert [message["role"] for message in await again.load()] == ["user"]
    resuming = asyncio.create_task(again.resume())
    await followed_by(app.state.reply_watch, 1)
    model.go_on.set()
    assert await resuming
    assert again.texts == ["?", "so far, and further"]
    assert not await again.resume()
    loaded = UiChat(alice, chat.id)
    assert (await loaded.load())[-1]["id"] == again.last["id"]


async def test_a_reply_of_a_process_that_stops_says_so(make_settings: MakeSettings) -> None:
    async with running(make_settings()) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        app.state.replies._ai = model = Endless("so far")
        chat = UiChat(alice)
        sending = asyncio.create_task(chat.send("?"))
        await model.thinks.wait()
        await app.state.replies.finish(0)
        await sending
        assert chat.error == "The answer was interrupted; answer again for all of it."
        assert (chat.texts[-1], chat.last["metadata"]["status"]) == ("so far", "interrupted")


async def test_limits_are_those_of_the_chat(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.chat_limits._at_once = 1
    app.state.replies._ai = model = Endless("so far")
    sending = asyncio.create_task(UiChat(alice).send("?"))
    await model.thinks.wait()
    refused = UiChat(alice)
    await refused.send("!")
    assert refused.answer is not None
    assert_problem(refused.answer, 429, "too_many_replies")
    assert len(await listed(alice)) == 1
    model.go_on.set()
    await sending
    long = UiChat(alice)
    await long.send("x" * (app.state.chat_settings.message_max_characters + 1))
    assert long.answer is not None
    assert_problem(long.answer, 422, "invalid")


@pytest.mark.parametrize("text", ["", " \n", "a\0b", "half \ud83e"])
async def test_texts_that_are_refused(alice: httpx2.AsyncClient, model: Scripted, text: str) -> None:
    chat = UiChat(alice)
    await chat.send(text)
    assert chat.answer is not None
    assert chat.answer.status_code == 422, chat.answer.text
    assert await listed(alice) == []


@pytest.mark.parametrize("id", ["%00", "%ED%A0%80", "x" * 65])
async def test_ids_that_are_refused(alice: httpx2.AsyncClient, id: str) -> None:
    for path in (f"{CHAT}/{id}", f"{CHAT}/{id}/stream"):
        answer = await alice.get(path)
        assert answer.status_code in (204, 404, 422), answer.text


@pytest.mark.parametrize("odd", [None, 1, "x", [], {}, {"role": "user"}, {"role": "user", "parts": [None, 1, {}]}])
async def test_messages_of_any_shape_break_nothing(alice: httpx2.AsyncClient, model: Scripted, odd: Any) -> None:
    for trigger in ("submit-message", "regenerate-message"):
        alone = await alice.post(CHAT, json={"id": "odd", "messages": [odd], "trigger": trigger})
        assert_problem(alone, 422, "invalid")
    chat = UiChat(alice)
    chat.messages = [odd]
    await chat.send("hello")
    assert heard(model) == [["hello"]]


async def test_a_long_conversation_is_sent_whole(alice: httpx2.AsyncClient, model: Scripted) -> None:
    chat = UiChat(alice)
    await chat.send("one")
    chat.messages = chat.messages * 400
    assert len(json.dumps(chat.messages)) > 100_000
    await chat.send("two")
    assert heard(model)[-1] == ["one", "Yes, indeed.", "two"]


async def test_many_values_are_allowed_in_messages_alone(alice: httpx2.AsyncClient) -> None:
    for more in ({"tools": [{}] * 6_000}, {f"{number}": 1 for number in range(6_000)}):
        answer = await alice.post(CHAT, json={"id": "x", "messages": [1], **more})
        assert_problem(answer, 422, "validation_error")
        assert len(answer.content) < 8_192
        assert len(answer.json().get("errors") or []) <= 1


async def test_reasoning_comes_first(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.replies._ai = Scripted(Reasoning("One "), Reasoning("two."), "Th", "ree.")
    chat = UiChat(alice)
    await chat.send("?")
    reasoning, text = chat.last["parts"][1:]
    assert (reasoning["text"], text["text"]) == ("One two.", "Three.")
    assert (await chat.load())[-1]["parts"] == [{"type": "step-start"}, reasoning, text]


async def test_a_deleted_conversation_ends_its_chat(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.replies._ai = model = Scripted("Yes.")
    chat = UiChat(alice)
    await chat.send("one")
    await alice.delete(f"{CONVERSATIONS}/{await only(alice)}")
    await chat.send("two")
    assert chat.answer is not None
    assert_problem(chat.answer, 404, "not_found")
    assert (heard(model), await listed(alice)) == ([["one"]], [])


async def test_a_stream_costs_no_more_statements_than_that_of_the_chat(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.replies._ai = Scripted(*["word "] * 200)
    costs = []
    for path, body in (
        (f"{SEND}/stream", {"content": "?"}),
        (CHAT, {"id": "x", "messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "?"}]}]}),
    ):
        cost, id = Cost(), uuid4().hex
        with counting(app, cost, id):
            assert (await alice.post(path, json=body, headers={"X-Request-ID": id})).status_code == 200
        costs.append(len(cost.statements))
    assert costs[1] <= costs[0] + 2  # it looks for the conversation, and claims its id


async def test_a_stop_from_elsewhere_is_told(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.replies._ai = model = Endless("so far")
    chat = UiChat(alice)
    sending = asyncio.create_task(chat.send("?"))
    await model.thinks.wait()

    async def is_stored() -> bool:
        return len(await listed(alice)) == 1

    await until(is_stored)
    reply = (await messages(alice, await only(alice)))["items"][-1]
    await alice.post(f"{SEND}/{reply['id']}/stop")
    assert types_of(await sending)[-2:] == ["abort", "finish"]
    assert (chat.chunks[-1]["finishReason"], chat.last["id"]) == ("interrupted", reply["id"])
    await chat.go_on()
    assert chat.answer is not None
    assert_problem(chat.answer, 409, "nothing_asked")


def test_the_chunks_are_read_as_the_client_does() -> None:
    answer = httpx2.Response(
        200,
        headers={"x-vercel-ai-ui-message-stream": "v1"},
        text=': keep-alive\n\ndata: {"type":"start"}\n\ndata: [DONE]\n\n',
    )
    assert chunks_of(answer) == [{"type": "start"}]


@pytest.mark.parametrize("depth", [0, 300, 900])
async def test_odd_messages_before_the_last_one_do_no_harm_to_a_key(alice: httpx2.AsyncClient, depth: int) -> None:
    odd = {"id": "own", "role": "user", "parts": [{"type": "text", "text": "\ud800"}]}
    nested = json.loads("[" * depth + "]" * depth) if depth else []
    last = {"id": "last", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
    body = json.dumps({"id": "odd", "messages": [odd, {"role": "user", "parts": nested}, last]})
    for _ in range(2):
        answer = await alice.post(CHAT, content=body, headers={**KEY, "Content-Type": "application/json"})
        assert answer.status_code == 200 or (depth == 900 and answer.status_code < 500), answer.text


async def test_an_id_that_is_no_text_is_unknown(alice: httpx2.AsyncClient) -> None:
    body = json.dumps({"id": "odd", "messages": [{"id": "\ud800", "role": "assistant", "parts": []}]})
    answer = await alice.post(CHAT, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("odd", ["\ud800", json.loads("[" * 300 + "]" * 300)])
async def test_schemas_of_tools_that_cannot_be_stored_are_refused(alice: httpx2.AsyncClient, odd: Any) -> None:
    tools = [{"name": "look", "input_schema": {"type": "object", "x": odd}}]
    message = {"id": "last", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
    for path, asked in ((CHAT, {"id": "odd", "messages": [message]}), (SEND, {"content": "hello"})):
        body = json.dumps({**asked, "tools": tools})
        assert_problem(
            await alice.post(path, content=body, headers={"Content-Type": "application/json"}), 422, "validation_error"
        )
