"""Tests messages that are sent twice, and messages that are sent at once."""

import asyncio

import httpx2
import pytest
from fastapi import FastAPI

from app.services.ai import AssistantMessage, UserMessage
from tests.chats import (
    SEND,
    STREAM,
    Endless,
    Scripted,
    all_messages,
    events_of,
    messages,
    stored,
    stream,
    text_of,
)
from tests.counting import statements
from tests.integration.test_errors import assert_problem

KEY = {"Idempotency-Key": "a key"}


@pytest.fixture
def endless(app: FastAPI) -> Endless:
    app.state.replies._ai = model = Endless("first", " reply")
    return model


@pytest.fixture
def rejecting(app: FastAPI, alice: httpx2.AsyncClient) -> httpx2.AsyncClient:
    app.state.chat_settings = app.state.chat_settings.model_copy(update={"concurrent_messages": "reject"})
    return alice


async def test_what_is_sent_again_is_answered_as_before(alice: httpx2.AsyncClient) -> None:
    first = await alice.post(SEND, json={"content": "hello"}, headers=KEY)
    again = await alice.post(SEND, json={"content": "hello"}, headers=KEY)
    assert (again.status_code, again.json()) == (201, first.json())
    created, *deltas, end = events_of(await alice.post(STREAM, json={"content": "hello"}, headers=KEY))
    assert created.data["reply_id"] == end.data["message"]["id"] == first.json()["id"]
    assert text_of(deltas) == first.json()["content"]
    assert len(await all_messages(alice)) == 2
    other = await alice.post(SEND, json={"content": "hello"}, headers={"Idempotency-Key": "another"})
    assert other.json()["id"] != first.json()["id"]


async def test_what_is_sent_at_once_with_one_key_is_one_message(
    alice: httpx2.AsyncClient, app: FastAPI, endless: Endless
) -> None:
    sending = [asyncio.create_task(alice.post(STREAM, json={"content": "?"}, headers=KEY)) for _ in range(5)]
    await endless.thinks.wait()
    endless.go_on.set()
    streams = [events_of(answer) for answer in await asyncio.gather(*sending)]
    assert len({events[-1].data["message"]["id"] for events in streams}) == 1
    assert {text_of(events) for events in streams} == {"first reply"}
    assert (len(endless.heard), len(await all_messages(alice))) == (1, 2)


async def test_a_key_is_for_one_request(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    first = (await alice.post(SEND, json={"content": "hello"}, headers=KEY)).json()
    for body in ({"content": "hello!"}, {"content": "hello", "conversation_id": first["conversation_id"]}):
        for path in (SEND, STREAM):
            assert_problem(await alice.post(path, json=body, headers=KEY), 409, "idempotency_key_reused")
    assert len(await all_messages(alice)) == 2
    assert (await bob.post(SEND, json={"content": "mine"}, headers=KEY)).json()["id"] != first["id"]


async def test_a_request_that_failed_does_not_use_up_its_key(alice: httpx2.AsyncClient) -> None:
    nowhere = {"content": "hello", "conversation_id": "01900000-0000-7000-8000-000000000000"}
    assert_problem(await alice.post(SEND, json=nowhere, headers=KEY), 404, "not_found")
    assert (await alice.post(SEND, json={"content": "hello"}, headers=KEY)).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 201])
async def test_a_key_that_is_refused(alice: httpx2.AsyncClient, key: str) -> None:
    answer = await alice.post(SEND, json={"content": "hello"}, headers={"Idempotency-Key": key})
    assert_problem(answer, 422, "validation_error")


async def test_a_second_message_waits_for_its_turn(alice: httpx2.AsyncClient, app: FastAPI, endless: Endless) -> None:
    sending = [asyncio.create_task(stream(alice, "one"))]
    await endless.thinks.wait()
    app.state.replies._ai = second = Scripted("second reply")
    [message, _reply] = await all_messages(alice)
    for count, content in ((4, "two"), (6, "three")):
        more = {"conversation_id": message["conversation_id"]}
        sending.append(asyncio.create_task(stream(alice, content, **more)))
        await stored(alice, count)
    assert second.heard == []
    endless.go_on.set()
    assert [(await task)[-1].type for task in sending] == ["message.completed"] * 3
    assert [m["content"] for m in await all_messages(alice)] == [
        *("one", "first reply"),
        *("two", "second reply"),
        *("three", "second reply"),
    ]
    first = [UserMessage("one"), AssistantMessage("first reply"), UserMessage("two")]
    assert second.heard == [first, [*first, AssistantMessage("second reply"), UserMessage("three")]]


async def test_a_message_whose_turn_has_not_come_can_be_stopped(alice: httpx2.AsyncClient, endless: Endless) -> None:
    first = asyncio.create_task(stream(alice, "one"))
    await endless.thinks.wait()
    conversation_id = (await all_messages(alice))[0]["conversation_id"]
    second = asyncio.create_task(stream(alice, "two", conversation_id=conversation_id))
    reply = (await stored(alice, 4))[3]
    stopped = await alice.post(f"{SEND}/{reply['id']}/stop")
    assert (stopped.json()["status"], stopped.json()["content"]) == ("stopped", "")
    assert (await second)[-1].type == "message.stopped"
    endless.go_on.set()
    assert (await first)[-1].type == "message.completed"


async def test_many_messages_at_once_have_dense_positions(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    app.state.replies._ai = model = Scripted("reply")
    id = (await alice.post(SEND, json={"content": "0"})).json()["conversation_id"]
    await asyncio.gather(*(alice.post(SEND, json={"content": str(n), "conversation_id": id}) for n in range(1, 8)))
    found = (await messages(alice, id))["items"]
    assert [m["role"] for m in found] == ["user", "assistant"] * 8
    assert {m["status"] for m in found} == {"completed"}
    contents = [m["content"] for m in found]
    assert [[line.text for line in lines] for lines in model.heard] == [contents[: 2 * n + 1] for n in range(8)]


async def test_a_second_message_is_rejected_where_the_setting_says_so(
    rejecting: httpx2.AsyncClient, app: FastAPI, endless: Endless
) -> None:
    sending = asyncio.create_task(stream(rejecting, "one"))
    await endless.thinks.wait()
    [message, reply] = await all_messages(rejecting)
    body = {"content": "two", "conversation_id": message["conversation_id"]}
    for path in (SEND, STREAM):
        assert_problem(await rejecting.post(path, json=body), 409, "conversation_busy")
    await rejecting.post(f"{SEND}/{reply['id']}/stop")
    await sending
    app.state.replies._ai = Scripted("second")
    assert (await rejecting.post(SEND, json=body)).json()["content"] == "second"
    assert [m["content"] for m in await all_messages(rejecting)] == ["one", "first", "two", "second"]


async def test_a_key_costs_one_statement_more(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    with statements(app) as without:
        await alice.post(SEND, json={"content": "hello"})
    with statements(app) as with_key:
        await alice.post(SEND, json={"content": "hello"}, headers=KEY)
    assert len(with_key) == len(without) + 1
