"""Tests chats of the AI SDK: what they send, and the chunks from which they build messages."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.services.ai.base import Reasoning
from tests.chats import CONVERSATIONS, SEND, Endless, Scripted, messages
from tests.integration.test_errors import assert_problem

CHAT = "/api/v1/ai-sdk/chat"


def said(text: str, role: str = "user", id: str = "made-up") -> dict[str, Any]:
    return {"id": id, "role": role, "parts": [{"type": "text", "text": text}]}


async def ask(client: httpx2.AsyncClient, *told: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Sends these messages as `useChat` does, and returns the chunks of the answer."""
    body = {"id": "my-chat", "messages": told, "trigger": "submit-message", **more}
    return chunks_of(await client.post(CHAT, json=body))


def chunks_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    *told, end, _ = answer.text.split("\n\n")
    assert end == "data: [DONE]"
    return [json.loads(chunk.removeprefix("data: ")) for chunk in told if not chunk.startswith(":")]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")


async def test_a_chat_gets_its_reply(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.replies._ai = Scripted(Reasoning("Hm."), "Yés, ", "🦜")
    start, *chunks, finish = await ask(alice, said("hello"))
    assert [chunk for chunk in chunks if not chunk["type"].endswith("-delta")] == [
        {"type": "start-step"},
        {"type": "reasoning-start", "id": "0"},
        {"type": "reasoning-end", "id": "0"},
        {"type": "text-start", "id": "1"},
        {"type": "text-end", "id": "1"},
        {"type": "finish-step"},
    ]
    assert text_of(chunks) == "Yés, 🦜"
    [conversation] = (await alice.get(CONVERSATIONS)).json()["items"]
    [_question, reply] = (await messages(alice, conversation["id"]))["items"]
    of_it = {"conversation_id": conversation["id"]}
    assert start == {"type": "start", "messageId": reply["id"], "messageMetadata": of_it}
    assert (finish["type"], finish["finishReason"]) == ("finish", "stop")
    assert finish["messageMetadata"] == {**of_it, **{name: reply[name] for name in ("created_at", "status", "usage")}}


async def test_a_chat_goes_on(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.replies._ai = model = Scripted("Yes.")
    first = await ask(alice, said("one"))
    reply = said("what a client claims that it said", "assistant", first[0]["messageId"])
    second = await ask(alice, said("one"), reply, said("two"))
    assert [[entry.text for entry in heard] for heard in model.heard] == [["one"], ["one", "Yes.", "two"]]
    assert second[0]["messageMetadata"] == first[0]["messageMetadata"]
    loaded = (await alice.get(f"{CHAT}/my-chat")).json()
    assert [message["role"] for message in loaded["messages"]] == ["user", "assistant"] * 2
    assert loaded["messages"][-1]["parts"][1:] == [{"type": "text", "text": "Yes.", "state": "done"}]
    by_id = await alice.get(f"{CHAT}/{first[0]['messageMetadata']['conversation_id']}")
    assert by_id.json()["messages"] == loaded["messages"]


async def test_a_message_is_edited_and_a_reply_regenerated(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.replies._ai = model = Scripted("Yes.")
    first = await ask(alice, said("one"))
    await ask(alice, said("uno"), messageId="made-up")
    await ask(alice, said("uno"), trigger="regenerate-message")
    await ask(alice, said("one"), trigger="regenerate-message", messageId=first[0]["messageId"])
    assert [[entry.text for entry in heard] for heard in model.heard] == [["one"], ["uno"], ["uno"], ["one"]]
    [question, reply] = (await messages(alice, first[0]["messageMetadata"]["conversation_id"]))["items"]
    assert (question["content"], len(question["siblings"]), len(reply["siblings"])) == ("one", 2, 2)


async def test_a_chat_comes_back(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.replies._ai = model = Endless("so far", ", and further")
    assert (await alice.get(f"{CHAT}/my-chat/stream")).status_code == 204
    first = asyncio.create_task(ask(alice, said("hello")))
    await model.thinks.wait()
    loaded = (await alice.get(f"{CHAT}/my-chat")).json()
    assert [message["role"] for message in loaded["messages"]] == ["user"]
    again = asyncio.create_task(alice.get(f"{CHAT}/my-chat/stream"))
    await asyncio.sleep(0)
    model.go_on.set()
    whole = chunks_of(await again)
    assert text_of(whole) == text_of(await first) == "so far, and further"
    assert (await alice.get(f"{CHAT}/my-chat/stream")).status_code == 204


async def test_a_reply_is_stopped(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.replies._ai = model = Endless("so far")
    asked = asyncio.create_task(ask(alice, said("hello")))
    await model.thinks.wait()
    await alice.get(f"{CHAT}/my-chat")
    [conversation] = (await alice.get(CONVERSATIONS)).json()["items"]
    reply = (await messages(alice, conversation["id"]))["items"][-1]
    await alice.post(f"{SEND}/{reply['id']}/stop")
    *chunks, abort, finish = await asked
    assert (text_of(chunks), abort["type"]) == ("so far", "abort")
    assert (finish["finishReason"], finish["messageMetadata"]["status"]) == ("interrupted", "stopped")


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"messages": []}, 422),
        ({"messages": [said(" ")]}, 422),
        ({"messages": [said("hello", "system")]}, 422),
        ({"messages": [{**said("hello"), "parts": [{"type": "file", "url": "data:,"}]}]}, 422),
        ({"messages": [said("hello", "assistant")]}, 404),
        ({"id": "x" * 65}, 422),
        ({"temperature": 1}, 422),
        ({"model": "unknown"}, 422),
    ],
)
async def test_what_is_refused(alice: httpx2.AsyncClient, more: dict[str, Any], status: int) -> None:
    answer = await alice.post(CHAT, json={"id": "my-chat", "messages": [said("hello")], **more})
    assert answer.status_code == status, answer.text
    assert (await alice.get(CONVERSATIONS)).json()["items"] == []


async def test_a_chat_is_its_owners(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    reply_id = (await ask(alice, said("hello")))[0]["messageId"]
    assert_problem(await bob.get(f"{CHAT}/my-chat"), 404, "not_found")
    stolen = {"id": "my-chat", "messages": [said("Yes.", "assistant", reply_id), said("go on")]}
    assert_problem(await bob.post(CHAT, json=stolen), 404, "not_found")
    await ask(bob, said("mine"))
    assert [len((await client.get(f"{CHAT}/my-chat")).json()["messages"]) for client in (alice, bob)] == [2, 2]
