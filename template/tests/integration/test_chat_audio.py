"""Tests speech in conversations: messages that are spoken, and replies that are read aloud."""

import asyncio

import httpx2
import pytest
from fastapi import FastAPI

from app.services.speech.registry import OptionalProvider, SpeechProviders
from app.services.speech.stt import Transcript
from tests.chats import SEND, Endless, Scripted, all_messages, stored, stream
from tests.integration.test_errors import assert_problem
from tests.integration.test_speech import only_sqlite
from tests.readers import Listener, Reader, use
from tests.recordings import recording

pytestmark = only_sqlite


@pytest.fixture
def reader(app: FastAPI) -> Reader:
    use(app, reader=(reader := Reader(b"audio")), listener=Listener(Transcript("What is it?")))
    return reader


async def send(client: httpx2.AsyncClient, **fields: str) -> httpx2.Response:
    return await client.post(f"{SEND}/audio", files={"file": ("a.webm", recording("webm"))}, data=fields)


@pytest.mark.usefixtures("reader")
async def test_a_spoken_message_is_a_message(alice: httpx2.AsyncClient) -> None:
    first = (await send(alice)).json()
    answer = await send(alice, conversation_id=first["conversation_id"], model="demo", language="en")
    assert answer.status_code == 201, answer.text
    reply = answer.json()
    assert (reply["role"], reply["status"]) == ("assistant", "completed")
    assert "“What is it?”" in reply["content"]
    assert [message["role"] for message in await all_messages(alice)] == ["user", "assistant"] * 2
    assert (await all_messages(alice))[2]["content"] == "What is it?"


@pytest.mark.usefixtures("reader")
async def test_a_spoken_message_is_refused_as_any_other(alice: httpx2.AsyncClient) -> None:
    assert_problem(await send(alice, conversation_id="0198c0de-0000-7000-8000-000000000000"), 404, "not_found")
    assert_problem(await send(alice, model="nonsense"), 422, "invalid")
    assert_problem(await send(alice, conversation_id="x"), 422, "validation_error")


async def test_a_reply_is_read_aloud(alice: httpx2.AsyncClient, app: FastAPI, reader: Reader) -> None:
    app.state.replies._ai = Scripted("Yes, ", "it is.")
    reply = (await alice.post(SEND, json={"content": "Is it?"})).json()
    answer = await alice.get(f"{SEND}/{reply['id']}/audio", params={"voice": "one", "format": "pcm", "speed": "1.5"})
    assert (answer.status_code, answer.content) == (200, b"audioaudio")
    assert reader.asked == [("Yes, it", "one", "pcm", 1.5), ("is.", "one", "pcm", 1.5)]
    for wrong in ({"speed": "9"}, {"pitch": "1"}):
        assert_problem(await alice.get(f"{SEND}/{reply['id']}/audio", params=wrong), 422, "validation_error")


@pytest.mark.usefixtures("reader")
async def test_a_reply_that_is_still_written_is_not_read(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    app.state.replies._ai = model = Endless(" ")
    reading = asyncio.create_task(stream(alice, "hello"))
    await model.thinks.wait()
    path = f"{SEND}/{(await stored(alice, 2))[1]['id']}/audio"
    assert_problem(await alice.get(path), 409, "still_written")
    model.go_on.set()
    await reading
    answer = await alice.get(path)
    assert_problem(answer, 422, "invalid")
    assert answer.json()["detail"] == "There is no text in this reply."


async def test_without_speech_people_are_told_what_is_not_there(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    nobody = (
        OptionalProvider(None, "This service cannot read aloud.", "Install it."),
        OptionalProvider(None, "This service cannot understand speech."),
    )
    app.state.speech_providers = SpeechProviders(*nobody, app.state.speech_providers.workers)
    reply = (await alice.post(SEND, json={"content": "Is it?"})).json()
    for answer, sentence in (
        (await send(alice), "This service cannot understand speech."),
        (await alice.get(f"{SEND}/{reply['id']}/audio"), "This service cannot read aloud."),
    ):
        assert_problem(answer, 503, "speech_not_installed")
        assert answer.json()["detail"] == sentence
