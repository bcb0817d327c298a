"""Tests several processes on one database; here they are applications in one process that share nothing else."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

from app.core import watch
from app.core.streams import redis_reader, redis_writer
from app.repositories import process, reply
from app.services.ai import Piece, Prompt, Reasoning
from app.services.chat import replies
from app.services.processes import heartbeat
from tests.chats import SEND, Endless, all_messages, resume, stored, stream, text_of, until
from tests.conftest import BACKENDS, MakeSettings, client_for, running, sign_in
from tests.counting import listening
from tests.redis_server import Line, own_prefix, reachable
from tests.sockets import connected
from tests.sse import Event

ROWS = [(backend, "rows") for backend in BACKENDS]
REDIS = [(BACKENDS[-1], "redis")] if reachable() else []
"""Names how a process learns of another's replies: by polling rows, or through Redis as well, on one database."""
several = partial(pytest.mark.parametrize, ("database_url", "replicas"), indirect=True)


@dataclass(frozen=True)
class Replica:
    app: FastAPI
    client: httpx2.AsyncClient

    def endless(self, *pieces: Piece) -> Endless:
        self.app.state.replies._ai = model = Endless(*pieces)
        return model


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LONGEST_PAUSE", 0.1)
    for module in (redis_reader, redis_writer):
        monkeypatch.setattr(module, "AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(process, "DEAD_SECONDS", 0.5)
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(replies, "BEAT_SECONDS", 0.1)
    for name in ("FLUSH_SECONDS", "ONLY_FLUSH_SECONDS"):
        monkeypatch.setattr(replies, name, 0.05)


@pytest.fixture
async def line() -> AsyncGenerator[Line]:
    line = Line()
    await line.mend()
    yield line
    await line.cut()


@pytest.fixture
async def replicas(
    request: pytest.FixtureRequest, make_settings: MakeSettings, line: Line
) -> AsyncGenerator[tuple[Replica, Replica]]:
    async with AsyncExitStack() as stack:
        redis: dict[str, Any] = {}
        if request.param == "redis":
            redis = {"redis_url": line.url, "redis_prefix": await stack.enter_async_context(own_prefix())}
        settings, headers, made = make_settings(**redis), dict[str, str](), list[Replica]()
        for _ in range(2):
            app = await stack.enter_async_context(running(settings))
            client = await stack.enter_async_context(client_for(app))
            headers = headers or await sign_in(client, "alice@example.com")
            client.headers.update(headers)
            made.append(Replica(app, client))
        yield made[0], made[1]


async def begin(replica: Replica, model: Endless) -> tuple[asyncio.Task[Any], str]:
    """Starts a reply whose model waits, and returns the task that reads it and the id of the reply."""
    reading = asyncio.create_task(stream(replica.client, "?"))
    await model.thinks.wait()
    return reading, (await all_messages(replica.client))[1]["id"]


async def stored_as(replica: Replica, content: str) -> None:
    async def so_far() -> bool:
        return (await all_messages(replica.client))[1]["content"] == content

    await until(so_far)


async def can_detect_dead(replica: Replica) -> None:
    async def steady() -> bool:
        return replica.app.state.heartbeat.can_detect_dead

    await until(steady)


class Unreachable:
    def write(self) -> NoReturn:
        raise OperationalError(None, None, OSError("unreachable"))


def pause(replica: Replica) -> None:
    """Stops the heartbeat, as if the process had been paused for a while: the others take it for dead."""
    replica.app.state.heartbeat._database = Unreachable()


def go_on(replica: Replica) -> None:
    replica.app.state.heartbeat._database = replica.app.state.database


@several(ROWS + REDIS)
async def test_a_reader_comes_back_to_another_process(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    model = one.endless("so far", ", and", " further")
    first, reply_id = await begin(one, model)
    again = [asyncio.create_task(resume(other.client, reply_id, offset)) for offset in (0, 4)]
    await stored_as(other, "so far")
    model.go_on.set()
    text = "so far, and further"
    assert [text_of(events) for events in await asyncio.gather(*again)] == [text, text[4:]]
    end = (await first)[-1]
    assert {(await task)[-1].data["message"]["content"] for task in again} == {text}
    assert (await resume(other.client, reply_id, 6))[-1] == end == (await again[0])[-1]


@several(ROWS + REDIS)
async def test_what_is_sent_at_once_to_two_processes_with_one_key_is_one_message(
    replicas: tuple[Replica, Replica],
) -> None:
    headers = {"Idempotency-Key": "a key"}
    sending = [replica.client.post(SEND, json={"content": "hi"}, headers=headers) for replica in replicas]
    first, second = await asyncio.gather(*sending)
    assert (first.status_code, first.json()) == (201, second.json())
    assert len(await all_messages(replicas[0].client)) == 2


@several(ROWS + REDIS)
async def test_any_process_stops_a_reply(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    reading, reply_id = await begin(one, one.endless())
    answer = await other.client.post(f"{SEND}/{reply_id}/stop")
    assert (answer.status_code, answer.json()["status"], answer.json()["content"]) == (200, "stopped", "so far")
    assert (await reading)[-1].type == "message.stopped"


@several(ROWS + REDIS)
async def test_a_message_waits_for_the_one_before_it_in_another_process(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    model, later = one.endless("first"), other.endless("second")
    later.go_on.set()
    reading, _ = await begin(one, model)
    conversation_id = (await all_messages(one.client))[0]["conversation_id"]
    second = asyncio.create_task(stream(other.client, "two", conversation_id=conversation_id))
    await stored(one.client, 4)
    assert later.heard == []
    model.go_on.set()
    await reading
    assert (await second)[-1].type == "message.completed"
    assert [line.text for line in later.heard[0]] == ["?", "first", "two"]


@several(ROWS + REDIS)
async def test_the_reply_of_a_dead_process_is_settled_and_its_followers_hear_of_it(
    replicas: tuple[Replica, Replica],
) -> None:
    one, other = replicas
    model = one.endless("so far", " too late")
    own_reader, reply_id = await begin(one, model)
    follower = asyncio.create_task(resume(other.client, reply_id, 3))
    await stored_as(other, "so far")
    pause(one)
    events = await asyncio.wait_for(follower, 10)
    assert (text_of(events), events[-1].type) == ("far", "message.interrupted")
    assert events[-1].data["message"]["content"] == "so far"
    # The process lives after all: it changes nothing any more, and its readers get what is stored.
    go_on(one)
    model.go_on.set()
    end = (await own_reader)[-1]
    assert (end.type, end.id, end.data["message"]) == ("message.interrupted", 6, events[-1].data["message"])
    [_user, reply] = await all_messages(one.client)
    assert (reply["status"], reply["content"]) == ("interrupted", "so far")


@several(ROWS + REDIS)
async def test_a_silent_model_is_no_dead_process(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    model = one.endless("so far", " and done")
    reading, reply_id = await begin(one, model)
    follower = asyncio.create_task(resume(other.client, reply_id))
    await can_detect_dead(other)
    await asyncio.sleep(process.DEAD_SECONDS)
    model.go_on.set()
    assert {(await task)[-1].type for task in (reading, follower)} == {"message.completed"}


@several(ROWS)
async def test_a_process_that_has_not_beaten_for_a_while_does_not_judge(replicas: tuple[Replica, Replica]) -> None:
    """Waits before it takes others for dead: after an outage or a pause of its own they may be alive."""
    one, other = replicas
    beats = other.app.state.heartbeat
    await can_detect_dead(other)
    beats._last -= process.DEAD_SECONDS
    assert not beats.can_detect_dead
    await beats.beat()
    assert not beats.can_detect_dead
    assert one.app.state.heartbeat.id != beats.id


@several(REDIS)
async def test_redis_may_fail_in_the_middle_and_come_back(replicas: tuple[Replica, Replica], line: Line) -> None:
    one, other = replicas
    model = one.endless("so far", ", and further")
    first, reply_id = await begin(one, model)
    followers = [asyncio.create_task(resume(other.client, reply_id))]
    await stored_as(other, "so far")
    await line.cut()
    followers.append(asyncio.create_task(resume(other.client, reply_id, 2)))
    model.go_on.set()
    assert text_of(await first) == "so far, and further"
    events = [await asyncio.wait_for(follower, 10) for follower in followers]
    assert [text_of(found) for found in events] == ["so far, and further", " far, and further"]
    await line.mend()
    second = one.endless("again")
    second.go_on.set()
    reply = (await one.client.post(SEND, json={"content": "?"})).json()
    assert text_of(await resume(other.client, reply["id"])) == "again"


@several(ROWS)
async def test_a_reply_whose_beginning_was_stored_and_not_answered_is_settled(
    replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulates a connection that broke just after the commit: this process lives, but does not know the reply."""
    one, _ = replicas
    monkeypatch.setattr(reply, "BEGUN_WITHIN", timedelta())
    monkeypatch.setattr(one.app.state.replies, "start", lambda _turn: None)
    events = await asyncio.wait_for(stream(one.client, "?"), 10)
    assert events[-1].type == "message.interrupted"


@several(ROWS + REDIS)
async def test_idle_readers_of_another_process_ask_the_database_for_nothing(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    model = one.endless("so far", ", and", " further")
    first, reply_id = await begin(one, model)
    await stored_as(other, "so far")
    again = [asyncio.create_task(resume(other.client, reply_id)) for _ in range(10)]
    looks, reads = 0, list[str]()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal looks
        looks += "length(messages.content)" in statement and "messages.id IN" in statement
        if looks > 5 and "messages.rating" in statement:
            reads.append(statement)

    async def looked() -> bool:
        return looks > 10

    with listening(other.app, before_cursor_execute=note):
        await until(looked)
        assert reads == []
    model.go_on.set()
    assert {text_of(events) for events in await asyncio.gather(*again)} == {"so far, and further"}
    await first


class Paused(Endless):
    """Streams its pieces; before each of those with these numbers it waits until the test sets `go_on`."""

    def __init__(self, pieces: list[Piece], *stops: int) -> None:
        super().__init__()
        self.pieces, self.stops = pieces, stops

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        self.hear(prompt)
        for number, piece in enumerate(self.pieces):
            if number in self.stops:
                self.thinks.set()
                await self.go_on.wait()
                self.go_on.clear()
            yield piece


THOUGHT = "I see 😀"
REASONED = len(f"-{THOUGHT}")


def told(events: list[Event]) -> tuple[str, str]:
    """Returns the reasoning and the text that these events carry."""
    return "".join(event.data["text"] for event in events if event.type == "reasoning.delta"), text_of(events)


def rest(thought: str, text: str, id: int) -> tuple[str, str]:
    """Returns what comes after the event with this id."""
    return thought[max(id - 1, 0) :], text[max(id - 2 - len(thought), 0) :]


@several(ROWS + REDIS)
@pytest.mark.parametrize("ids", [(0, 1, 3), (REASONED, REASONED + 3)], ids=["amid the reasoning", "amid the text"])
async def test_reasoning_is_followed_in_any_process_from_any_place(
    replicas: tuple[Replica, Replica], ids: tuple[int, ...]
) -> None:
    one, other = replicas
    pieces: list[Piece] = [Reasoning("I see"), Reasoning(" 😀"), "so", " far", Reasoning("no"), " 🦜 done"]
    before = 1 if ids[0] == 0 else 3
    model = Paused(pieces, before)
    one.app.state.replies._ai = model
    first, reply_id = await begin(one, model)
    readers = [(id, asyncio.create_task(resume(replica.client, reply_id, id))) for replica in replicas for id in ids]
    shown = [{"type": "reasoning", "text": "I see" if before == 1 else THOUGHT}]
    text = "" if before == 1 else "so"

    async def so_far() -> bool:
        return (await all_messages(other.client))[1]["parts"] == shown + [{"type": "text", "text": text}] * bool(text)

    await until(so_far)
    assert (await all_messages(other.client))[1]["content"] == text
    model.go_on.set()
    whole = await first
    for id, reader in readers:
        events = await reader
        assert (told(events), events[-1]) == (rest(THOUGHT, "so far 🦜 done", id), whole[-1])
    for id in range(whole[-1].id + 2):
        for replica in replicas:
            assert told(await resume(replica.client, reply_id, id)) == rest(THOUGHT, "so far 🦜 done", id)


@several(ROWS + REDIS)
@pytest.mark.parametrize("text", ["", "so far"])
async def test_a_dead_process_leaves_the_reasoning_as_its_readers_have_it(
    replicas: tuple[Replica, Replica], text: str
) -> None:
    one, other = replicas
    model = Paused([Reasoning(THOUGHT), *([text] if text else []), " too late"], 1 + bool(text))
    one.app.state.replies._ai = model
    own_reader, reply_id = await begin(one, model)
    follower = asyncio.create_task(resume(other.client, reply_id, 3))
    pause(one)
    events = await asyncio.wait_for(follower, 10)
    assert (told(events), events[-1].type) == (rest(THOUGHT, text, 3), "message.interrupted")
    parts = [{"type": "reasoning", "text": THOUGHT}, *([{"type": "text", "text": text}] if text else [])]
    assert (events[-1].data["message"]["content"], events[-1].data["message"]["parts"]) == (text, parts)
    go_on(one)
    model.go_on.set()
    end = (await own_reader)[-1]
    assert (end.type, end.id, end.data) == (events[-1].type, events[-1].id, events[-1].data)
    assert told(await resume(one.client, reply_id)) == (THOUGHT, text)


@several(ROWS + REDIS)
async def test_reasoning_is_seen_in_another_process_as_it_grows(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    model = Paused([Reasoning("I see"), Reasoning(" 😀"), Reasoning(" now"), "done"], 1, 2, 3)
    one.app.state.replies._ai = model
    first, reply_id = await begin(one, model)
    seen = ""
    async with connected(other.app, "/api/v1/chat/ws", other.client) as socket:
        await socket.send(type="resume", reply_id=reply_id)
        for text in ("I see", "I see 😀", "I see 😀 now"):
            while seen != text:
                frame = (await socket.until("reasoning.delta"))[-1]
                seen += frame["text"]
                assert (text.startswith(seen), frame["offset"], frame["part"]) == (True, 1 + len(seen), 0)
            model.go_on.set()
        assert (await socket.until("message.completed"))[-2]["part"] == 1
    await first


@several(ROWS)
async def test_who_ends_a_reply_brings_its_reasoning_to_its_own_readers(
    replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Has the reader look at the row once, before anything is stored: all that it gets comes from the recovery."""
    monkeypatch.setattr(watch, "LONGEST_PAUSE", 1_000_000)
    one, other = replicas
    model = Paused([Reasoning(THOUGHT), "so far", " too late"], 0, 2)
    one.app.state.replies._ai = model
    own_reader, reply_id = await begin(one, model)
    follower = asyncio.create_task(resume(other.client, reply_id))

    async def looked() -> bool:
        return any(watched.due for watched in other.app.state.reply_watch._watched.values())

    await until(looked)
    model.go_on.set()
    await stored_as(other, "so far")
    pause(one)
    events = await asyncio.wait_for(follower, 10)
    assert (told(events), events[-1].type) == ((THOUGHT, "so far"), "message.interrupted")
    go_on(one)
    model.go_on.set()
    await own_reader
