"""Tests the effort and the reasoning of plain replies, through each provider's own SDK."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI

from app.repositories.reply import ReplyRepository
from app.services.chat import replies
from tests.chats import SEND, STREAM, all_messages, events_of, resume, stream, text_of, until
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.counting import statements
from tests.integration.test_reasoning import EFFORTS, SDK_PIECES, THOUGHT, contains, dialect_of, of_installed
from tests.protocols.dialect import Dialect
from tests.protocols.server import Server, serve
from tests.sockets import connected

FIRST = {model.partition(":")[0]: (model, effort, fields) for model, effort, fields in reversed(of_installed(EFFORTS))}
"""Holds for each provider a model that reasons, an effort, and what is sent for it."""
MODEL, EFFORT, _ = next(iter(FIRST.values()))
SAID = ["It is ", "R😀me", "."]
TEXT = "".join(SAID)
SHOWN = f"{THOUGHT}\n\nThat is all." if MODEL.startswith("openai:") else THOUGHT
SECONDS = 20
"""Limits how long a test waits for what should take a moment."""


@dataclass(frozen=True)
class Talk:
    """Lets a test talk with a model, and play its provider."""

    app: FastAPI
    client: httpx2.AsyncClient
    provider: Server
    dialect: Dialect

    def reason(self, *pauses: asyncio.Event) -> None:
        self.provider.will(self.dialect.reason_and_speak(*SDK_PIECES, deltas=SAID, pauses=pauses))

    async def begin(self, *parts: Mapping[str, str]) -> tuple[asyncio.Task[Any], dict[str, Any]]:
        """Sends a message; returns the task that reads its reply, and the reply once it is stored with these parts."""
        reading = asyncio.create_task(stream(self.client, "Where?"))

        async def so_far() -> bool:
            found = await self.client.get("/api/v1/chat/conversations")
            return bool(found.json()["items"]) and (await all_messages(self.client))[1]["parts"] == list(parts)

        async with asyncio.timeout(SECONDS):
            await until(so_far)
        return reading, (await all_messages(self.client))[1]


@asynccontextmanager
async def talking(make_settings: MakeSettings, model: str) -> AsyncGenerator[Talk]:
    dialect = dialect_of(model)
    assert dialect
    async with serve() as provider:
        with pytest.MonkeyPatch.context() as patch:
            dialect.point_at(provider.url, patch)
            async with running(make_settings(ai_model=model, ai_max_retries=0)) as app, client_for(app) as client:
                client.headers.update(await sign_in(client, "alice@example.com"))
                yield Talk(app, client, provider, dialect)


@pytest.fixture
async def talk(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Talk]:
    for name in ("FLUSH_SECONDS", "ONLY_FLUSH_SECONDS"):
        monkeypatch.setattr(replies, name, 0.05)
    async with talking(make_settings, MODEL) as talk:
        yield talk


def reasoning_of(found: list[Any]) -> str:
    return "".join(event.data["text"] for event in found if event.type == "reasoning.delta")


def part(type: str, text: str) -> dict[str, str]:
    return {"type": type, "text": text}


@pytest.mark.parametrize(("model", "effort", "fields"), FIRST.values(), ids=FIRST)
async def test_an_effort_reaches_the_model_whose_reasoning_is_shown(
    make_settings: MakeSettings, model: str, effort: str, fields: Mapping[str, Any]
) -> None:
    async with talking(make_settings, model) as talk:
        talk.reason()
        told = events_of(await talk.client.post(STREAM, json={"content": "Where?", "reasoning_effort": effort}))
        asked = talk.provider.requests[-1].body
        talk.reason()
        again = await talk.client.post(f"{SEND}/{told[-1].data['message']['id']}/regenerate", json={})
        plain = talk.provider.requests[-1].body
    shown = reasoning_of(told)
    assert shown in (THOUGHT, f"{THOUGHT}\n\nThat is all.")
    assert [event.type for event in told if event.type != "message.delta"][-2:] == [
        "reasoning.delta",
        "message.completed",
    ]
    message = told[-1].data["message"]
    assert (message["content"], text_of(told)) == (TEXT, TEXT)
    assert message["parts"] == [part("reasoning", shown), part("text", TEXT)] == again.json()["parts"]
    wanted = {name: value for name, value in fields.items() if name != "temperature"}
    assert contains(asked, wanted), asked
    assert not contains(plain, wanted), plain


async def test_events_come_in_order_and_any_of_them_is_a_place_to_go_on(talk: Talk) -> None:
    talk.reason()
    created, *deltas, end = await stream(talk.client, "Where?")
    shown = reasoning_of(deltas)
    assert (created.type, created.id, end.id) == ("message.created", 0, 2 + len(shown) + len(TEXT))
    assert [event.data["part"] for event in deltas] == sorted(event.data["part"] for event in deltas)
    assert {(event.type, event.data["part"]) for event in deltas} == {("reasoning.delta", 0), ("message.delta", 1)}
    ids = [event.id for event in (created, *deltas)]
    assert ids == sorted(set(ids))
    for number, id in enumerate(ids):
        *rest, last = await resume(talk.client, created.data["reply_id"], id)
        assert (reasoning_of(rest), text_of(rest)) == (reasoning_of(deltas[number:]), text_of(deltas[number:]))
        assert last == end


async def test_reasoning_is_there_while_the_model_reasons_and_stays_when_it_is_stopped(talk: Talk) -> None:
    thought, spoken = asyncio.Event(), asyncio.Event()
    talk.reason(thought, spoken)
    reading, reply = await talk.begin(part("reasoning", SHOWN))
    assert (reply["content"], reply["status"]) == ("", "pending")
    stopped = (await talk.client.post(f"{SEND}/{reply['id']}/stop")).json()
    assert (stopped["status"], stopped["content"], stopped["parts"]) == ("stopped", "", [part("reasoning", SHOWN)])
    end = (await reading)[-1]
    assert (end.type, end.id, end.data["message"]) == ("message.stopped", 1 + len(SHOWN), stopped)
    talk.reason(thought, spoken)
    thought.set()
    more = {"conversation_id": reply["conversation_id"]}
    reading = asyncio.create_task(stream(talk.client, "And?", **more))
    parts = [part("reasoning", SHOWN), part("text", SAID[0])]

    async def so_far() -> bool:
        return (await all_messages(talk.client))[-1]["parts"] == parts

    async with asyncio.timeout(SECONDS):
        await until(so_far)
    exported = (await talk.client.get("/api/v1/users/me/export")).json()["messages"]
    assert {(row["content"], json.dumps(row["parts"])) for row in exported if row["parts"]} == {
        (text, json.dumps([part("reasoning", SHOWN)])) for text in ("", SAID[0])
    }
    await talk.app.state.replies.finish(0)
    end = (await reading)[-1]
    message = end.data["message"]
    assert (end.type, message["content"], message["parts"]) == ("message.interrupted", SAID[0], parts)
    assert end.id == 2 + len(SHOWN) + len(SAID[0])
    async with talk.app.state.database.read() as session:
        states = await ReplyRepository(session).states([UUID(reply["id"]), UUID(message["id"])])
    assert sorted(state.length for state in states.values()) == [1 + len(SHOWN), end.id]


async def test_a_socket_carries_the_effort_and_the_reasoning(talk: Talk) -> None:
    talk.reason()
    async with connected(talk.app, "/api/v1/chat/ws", talk.client) as socket:
        await socket.send(type="send", content="Where?", reasoning_effort=EFFORT)
        created, *frames = await socket.until("message.completed")
        shown = [frame for frame in frames if frame["type"] == "reasoning.delta"]
        assert "".join(frame["text"] for frame in shown) == SHOWN
        talk.reason()
        await socket.send(type="regenerate", reply_id=created["reply_id"], reasoning_effort=EFFORT)
        assert (await socket.until("message.completed"))[-1]["message"]["parts"] == frames[-1]["message"]["parts"]
        await socket.send(type="resume", reply_id=created["reply_id"], offset=shown[0]["offset"])
        again = await socket.until("message.completed")
    assert (
        "".join(frame["text"] for frame in again if frame["type"] == "reasoning.delta")
        == SHOWN[shown[0]["offset"] - 1 :]
    )
    assert "".join(frame["text"] for frame in again if frame["type"] == "message.delta") == TEXT
    [wanted] = [fields for model, effort, fields in FIRST.values() if (model, effort) == (MODEL, EFFORT)]
    assert contains(talk.provider.requests[-1].body, wanted)


async def test_the_model_does_not_get_its_reasoning_back(talk: Talk) -> None:
    talk.reason()
    first = (await talk.client.post(SEND, json={"content": "Where?"})).json()
    body = {"content": "Sure?", "conversation_id": first["conversation_id"]}
    talk.reason()
    assert (await talk.client.post(SEND, json=body)).status_code == 201
    sent = json.dumps(talk.provider.requests[-1].body, ensure_ascii=False)
    assert TEXT in sent
    assert THOUGHT not in sent


async def test_a_message_that_waits_keeps_its_effort(talk: Talk) -> None:
    thought = asyncio.Event()
    talk.reason(thought)
    reading, reply = await talk.begin(part("reasoning", SHOWN))
    more = {"conversation_id": reply["conversation_id"], "reasoning_effort": EFFORT}
    second = asyncio.create_task(stream(talk.client, "And?", **more))

    async def waits() -> bool:
        return len(await all_messages(talk.client)) == 4

    await until(waits)
    assert len(talk.provider.requests) == 1
    thought.set()
    assert (await reading)[-1].type == (await second)[-1].type == "message.completed"
    [wanted] = [fields for model, effort, fields in FIRST.values() if (model, effort) == (MODEL, EFFORT)]
    assert contains(talk.provider.requests[-1].body, wanted)


async def test_reasoning_costs_no_statement(talk: Talk) -> None:
    talk.provider.will(talk.dialect.speak(*SAID))
    with statements(talk.app) as without:
        await talk.client.post(SEND, json={"content": "Where?"})
    talk.reason()
    with statements(talk.app) as reasoned:
        await talk.client.post(SEND, json={"content": "Where?", "reasoning_effort": EFFORT})
    assert len(reasoned) == len(without), reasoned


async def test_a_key_is_for_one_effort(talk: Talk) -> None:
    headers = {"Idempotency-Key": "a key"}
    talk.reason()
    first = await talk.client.post(SEND, json={"content": "Where?"}, headers=headers)
    again = await talk.client.post(SEND, json={"content": "Where?"}, headers=headers)
    other = await talk.client.post(SEND, json={"content": "Where?", "reasoning_effort": EFFORT}, headers=headers)
    assert (again.json(), other.status_code) == (first.json(), 409)
