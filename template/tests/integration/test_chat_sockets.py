"""Tests chat through a WebSocket."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.models.message import MessageStatus
from tests.chats import SEND, Endless, Scripted, all_messages, resume, stored
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.sockets import Socket, connected

PATH = "/api/v1/chat/ws"
ENDS = ("message.completed", "message.stopped", "message.interrupted", "message.failed", "error")


@pytest.fixture
async def socket(app: FastAPI, alice: httpx2.AsyncClient) -> AsyncGenerator[Socket]:
    async with connected(app, PATH, alice) as socket:
        yield socket


def speaking(app: FastAPI, model: Any) -> Any:
    app.state.replies._ai = model
    return model


def said(frames: list[dict[str, Any]]) -> str:
    return "".join(frame["text"] for frame in frames if frame["type"] == "message.delta")


async def test_a_message_is_answered(socket: Socket, alice: httpx2.AsyncClient) -> None:
    await socket.send(type="send", content="hello", ref="1")
    created, *deltas, completed = await socket.until(*ENDS)
    assert created["type"] == "message.created"
    assert created["user_message"]["content"] == "hello"
    assert completed["type"] == "message.completed"
    assert said(deltas) == completed["message"]["content"]
    assert completed["offset"] == len(said(deltas))
    assert {frame["ref"] for frame in (created, *deltas, completed)} == {"1"}
    _, reply = await all_messages(alice)
    assert completed["message"].items() <= reply.items()


async def test_frames_are_the_events_of_the_stream(socket: Socket, alice: httpx2.AsyncClient) -> None:
    await socket.send(type="send", content="hello")
    frames = await socket.until(*ENDS)
    reply_id = frames[0]["reply_id"]
    events = await resume(alice, reply_id)
    assert (events[0].data | {"offset": 0}, events[-1].data | {"offset": events[-1].id}) == (frames[0], frames[-1])


async def test_a_conversation_goes_on(socket: Socket, alice: httpx2.AsyncClient) -> None:
    await socket.send(type="send", content="one")
    created = (await socket.until(*ENDS))[0]
    for content in ("two", "three"):  # without waiting for the reply in between
        await socket.send(type="send", content=content, conversation_id=created["conversation_id"], ref=content)
    ended = [(await socket.until(*ENDS))[-1]["ref"] for _ in range(2)]
    assert ended == ["two", "three"]
    contents = [message["content"] for message in await stored(alice, 6)]
    assert contents[::2] == ["one", "two", "three"]


async def test_conversations_go_on_beside_each_other(app: FastAPI, socket: Socket) -> None:
    slow = speaking(app, Endless("slow", " and steady"))
    await socket.send(type="send", content="first", ref="slow")
    await slow.thinks.wait()
    speaking(app, Scripted("quick"))
    await socket.send(type="send", content="second", ref="quick")
    frames = await socket.until(*ENDS)
    assert (frames[-1]["ref"], frames[-1]["message"]["content"]) == ("quick", "quick")
    slow.go_on.set()
    frames = await socket.until(*ENDS)
    assert (frames[-1]["ref"], frames[-1]["message"]["content"]) == ("slow", "slow and steady")


async def test_who_falls_behind_gets_more_at_once(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    """Keeps only one frame waiting, however much text arrives meanwhile."""
    model = speaking(app, Endless("a", *["b"] * 1000))
    async with connected(app, PATH, alice, room=1) as socket:
        await socket.send(type="send", content="hello")
        assert (await socket.frame())["type"] == "message.created"
        model.go_on.set()
        while app.state.replies._active:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        frames = await socket.until(*ENDS)
        assert said(frames) == frames[-1]["message"]["content"] == "a" + "b" * 1000
        assert len(frames) < 6


async def test_leaving_does_not_stop_a_reply_which_can_be_resumed(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = speaking(app, Endless("so far", ", so good"))
    async with connected(app, PATH, alice) as socket:
        await socket.send(type="send", content="hello")
        created, delta = await socket.until("message.delta")
        assert (delta["text"], delta["offset"]) == ("so far", 6)
    async with connected(app, PATH, alice) as socket:
        await socket.send(type="resume", reply_id=created["reply_id"], offset=3, ref="again")
        assert (await socket.frame())["text"] == "far"
        model.go_on.set()
        frames = await socket.until(*ENDS)
        assert said(frames) == ", so good"
        assert frames[-1]["message"]["content"] == "so far, so good"
        assert {frame["ref"] for frame in frames} == {"again"}
        await socket.send(type="resume", reply_id=created["reply_id"])
        assert [frame["type"] for frame in await socket.until(*ENDS)] == [
            "message.created",
            "message.delta",
            "message.completed",
        ]


async def test_resuming_what_is_followed_begins_anew(app: FastAPI, socket: Socket) -> None:
    model = speaking(app, Endless("so far", ", so good"))
    await socket.send(type="send", content="hello", ref="old")
    created, _ = await socket.until("message.delta")
    await socket.send(type="resume", reply_id=created["reply_id"], offset=0, ref="new")
    assert (await socket.frame())["text"] == "so far"
    model.go_on.set()
    assert {frame["ref"] for frame in await socket.until(*ENDS)} == {"new"}


async def test_stopping_ends_a_reply_once(app: FastAPI, socket: Socket) -> None:
    speaking(app, Endless("so far"))
    await socket.send(type="send", content="hello", ref="said")
    created, _ = await socket.until("message.delta")
    await socket.send(type="stop", reply_id=created["reply_id"], ref="stopped")
    await socket.send(type="ping", ref="after")
    frames = [await socket.frame(), await socket.frame()]
    [stopped] = [frame for frame in frames if frame["type"] == "message.stopped"]
    assert (stopped["message"]["content"], stopped["offset"], stopped["ref"]) == ("so far", 6, "said")
    await socket.send(type="stop", reply_id=created["reply_id"], ref="again")
    assert await socket.frame() == {**stopped, "ref": "again"}


async def test_another_socket_can_stop_it(app: FastAPI, alice: httpx2.AsyncClient, socket: Socket) -> None:
    speaking(app, Endless("so far"))
    await socket.send(type="send", content="hello")
    created, _ = await socket.until("message.delta")
    async with connected(app, PATH, alice) as other:
        await other.send(type="stop", reply_id=created["reply_id"], ref="other")
        for reader in (socket, other):
            assert (await reader.until(*ENDS))[-1]["message"]["status"] == MessageStatus.stopped


async def test_what_is_sent_again_has_one_effect(socket: Socket, alice: httpx2.AsyncClient) -> None:
    replies: set[str] = set()
    for _ in range(2):
        await socket.send(type="send", content="hello", idempotency_key="a key")
        replies.add((await socket.until(*ENDS))[-1]["message"]["id"])
    by_http = await alice.post(SEND, json={"content": "hello"}, headers={"Idempotency-Key": "a key"})
    assert {by_http.json()["id"]} == replies
    await socket.send(type="send", content="something else", idempotency_key="a key")
    error = await socket.frame()
    assert (error["status"], error["type"]) == (409, "error")
    assert len(await all_messages(alice)) == 2


async def test_anothers_ids_do_not_exist(app: FastAPI, bob: httpx2.AsyncClient, socket: Socket) -> None:
    await socket.send(type="send", content="hello")
    created = (await socket.until(*ENDS))[0]
    async with connected(app, PATH, bob) as theirs:
        for frame in (
            {"type": "send", "content": "hello", "conversation_id": created["conversation_id"]},
            {"type": "resume", "reply_id": created["reply_id"]},
            {"type": "stop", "reply_id": created["reply_id"]},
        ):
            await theirs.send(**frame, ref="r")
            error = await theirs.frame()
            assert (error["type"], error["status"], error["code"], error["ref"]) == ("error", 404, "not_found", "r")


async def test_what_http_refuses_is_refused(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGE_MAX_CHARACTERS", "5")
    monkeypatch.setenv("CONCURRENT_MESSAGES", "reject")
    async with running(make_settings()) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        speaking(app, Endless("so far"))
        async with connected(app, PATH, client) as socket:
            await socket.send(type="send", content="too long")
            assert (await socket.frame())["code"] == "invalid"
            await socket.send(type="send", content=" ")
            assert (await socket.frame())["code"] == "validation_error"
            await socket.send(type="send", content="hello")
            created, _ = await socket.until("message.delta")
            await socket.send(type="send", content="again", conversation_id=created["conversation_id"])
            assert (await socket.frame())["code"] == "conversation_busy"
            await socket.send(type="stop", reply_id=created["reply_id"])
            await socket.until("message.stopped")
