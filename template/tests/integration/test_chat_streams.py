"""Tests clients that reconnect to a stream, stop a reply, or give feedback."""

import asyncio

import httpx2
import pytest
from fastapi import FastAPI

from app.core.streams import base as events_module
from tests.chats import SEND, Endless, Scripted, all_messages, events_of, messages, resume, stream, text_of
from tests.integration.test_errors import assert_problem

STREAM = f"{SEND}/stream"


@pytest.fixture
def endless(app: FastAPI) -> Endless:
    app.state.replies._ai = model = Endless("so far", ", ", "and 🦜 further")
    return model


async def test_a_reader_comes_back_after_the_end(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    app.state.replies._ai = Scripted("Yés, ", "🦜", "indeed")
    events = await stream(alice, "?")
    reply, text = events[-1].data["message"], "Yés, 🦜indeed"
    for offset in range(len(text) + 3):
        *deltas, end = await resume(alice, reply["id"], offset)
        assert text_of(deltas) == text[offset:]
        assert (end, [delta.type for delta in deltas]) == (events[-1], ["message.delta"] * (offset < len(text)))
    created, *deltas, end = await resume(alice, reply["id"])
    assert (created, text_of(deltas), end) == (events[0], text, events[-1])


async def test_a_reader_comes_back_while_the_model_speaks(alice: httpx2.AsyncClient, endless: Endless) -> None:
    first = asyncio.create_task(stream(alice, "?"))
    await endless.thinks.wait()
    [_user, reply] = await all_messages(alice)
    again = [asyncio.create_task(resume(alice, reply["id"], offset)) for offset in (0, 3, 6)]
    await asyncio.sleep(0)
    endless.go_on.set()
    text = "so far, and 🦜 further"
    assert [text_of(events) for events in await asyncio.gather(*again)] == [text, text[3:], text[6:]]
    assert {(await task)[-1].type for task in [first, *again]} == {"message.completed"}


async def test_a_reader_hears_that_a_silent_model_is_alive(
    alice: httpx2.AsyncClient, endless: Endless, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert events_module.KEEP_ALIVE_SECONDS <= 30, "many proxies close connections that are idle for longer"
    monkeypatch.setattr(events_module, "KEEP_ALIVE_SECONDS", 0.02)
    sending = asyncio.create_task(alice.post(STREAM, json={"content": "?"}))
    await endless.thinks.wait()
    await asyncio.sleep(0.1)
    endless.go_on.set()
    answer = await sending
    assert answer.text.count(": keep-alive\n\n") >= 2
    assert events_of(answer)[-1].type == "message.completed"


@pytest.mark.parametrize("id", ["", "x", "-1", "1.5", "9" * 12, "9" * 5000])
async def test_a_last_event_id_that_is_refused(alice: httpx2.AsyncClient, id: str) -> None:
    reply = (await alice.post(SEND, json={"content": "hello"})).json()
    answer = await alice.get(f"{SEND}/{reply['id']}/stream", headers={"Last-Event-ID": id})
    assert_problem(answer, 422, "validation_error")


async def test_only_a_reply_is_followed_stopped_and_rated(alice: httpx2.AsyncClient) -> None:
    await alice.post(SEND, json={"content": "hello"})
    [question, _reply] = await all_messages(alice)
    path = f"{SEND}/{question['id']}"
    answers = [
        await alice.get(f"{path}/stream"),
        await alice.post(f"{path}/stop"),
        await alice.put(f"{path}/feedback", json={"rating": "up"}),
    ]
    assert [answer.status_code for answer in answers] == [404] * 3


async def test_stopping_keeps_the_text_and_may_be_repeated(alice: httpx2.AsyncClient, endless: Endless) -> None:
    reading = asyncio.create_task(stream(alice, "?"))
    await endless.thinks.wait()
    [_user, reply] = await all_messages(alice)
    answers = await asyncio.gather(*(alice.post(f"{SEND}/{reply['id']}/stop") for _ in range(3)))
    answers.append(await alice.post(f"{SEND}/{reply['id']}/stop"))
    for answer in answers:
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["content"]) == ("stopped", "so far")
    end = (await reading)[-1]
    assert (end.type, end.id, end.data["message"]) == ("message.stopped", 6, answers[0].json())
    assert (await resume(alice, reply["id"], 6))[-1] == end


async def test_stopping_what_has_ended_changes_nothing(alice: httpx2.AsyncClient) -> None:
    reply = (await alice.post(SEND, json={"content": "hello"})).json()
    assert (await alice.post(f"{SEND}/{reply['id']}/stop")).json() == reply


async def test_only_ones_own_reply_is_stopped(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, endless: Endless
) -> None:
    reading = asyncio.create_task(stream(alice, "?"))
    await endless.thinks.wait()
    [_user, reply] = await all_messages(alice)
    assert_problem(await bob.post(f"{SEND}/{reply['id']}/stop"), 404, "not_found")
    endless.go_on.set()
    assert (await reading)[-1].type == "message.completed"


async def test_what_a_model_says_can_be_stored(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    app.state.replies._ai = Scripted("nul\0", "half \ud83e")
    events = await stream(alice, "?")
    reply = events[-1].data["message"]
    assert text_of(events) == reply["content"] == "nulhalf ?"
    assert (await all_messages(alice))[1]["content"] == reply["content"]


async def test_feedback_replaces_what_was_said_before(alice: httpx2.AsyncClient) -> None:
    reply = (await alice.post(SEND, json={"content": "hello"})).json()
    path = f"{SEND}/{reply['id']}/feedback"
    assert reply["feedback"] is None
    rated = await alice.put(path, json={"rating": "down", "comment": "Too long."})
    assert rated.json() == {**reply, "feedback": {"rating": "down", "comment": "Too long."}}
    rated = await alice.put(path, json={"rating": "up"})
    assert rated.json()["feedback"] == {"rating": "up", "comment": None}
    assert (await messages(alice, reply["conversation_id"]))["items"][1].items() >= rated.json().items()


@pytest.mark.parametrize(
    "body", [{}, {"rating": "great"}, {"rating": None}, {"rating": "up", "comment": " "}, {"rating": "up", "x": 1}]
)
async def test_feedback_that_is_refused(alice: httpx2.AsyncClient, body: dict[str, object]) -> None:
    reply = (await alice.post(SEND, json={"content": "hello"})).json()
    assert_problem(await alice.put(f"{SEND}/{reply['id']}/feedback", json=body), 422, "validation_error")
