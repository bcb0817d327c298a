"""Tests branches of conversations on bad days: old rows, many messages, several devices, replies under way."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import insert, select, text, update
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.core.security import fingerprint
from app.models.conversation import Conversation
from app.models.idempotency_key import IdempotencyKey
from app.models.message import Message, MessageStatus, Role
from app.repositories.conversation import HISTORY_MAX_MESSAGES
from app.services.chat import turns
from tests.chats import CONVERSATIONS, SEND, Endless, messages, stored
from tests.counting import assert_little_is_read, cost_of_reading, executed, statements
from tests.integration.test_branches import Counting, branch, model, regenerate, send, show

__all__ = ["model"]
"""Exports the fixture of another module."""

DEEP = 10_000


async def forget_parents(database: Database, id: str, *, also_of_branches: bool = False) -> None:
    """Makes the messages of a conversation as versions before 0.2 store them."""
    async with database.write() as session:
        await session.execute(update(Message).where(Message.conversation_id == UUID(id)).values(parent_id=None))
        values: dict[str, Any] = {"last_message_id": None}
        await session.execute(update(Conversation).where(Conversation.id == UUID(id)).values(values))


async def append_as_before(database: Database, id: str, *contents: str) -> None:
    """Appends messages as versions before 0.2 do, which know no branches."""
    async with database.write() as session:
        last = select(Message.position).where(Message.conversation_id == UUID(id)).order_by(Message.position.desc())
        position = await session.scalar(last.limit(1)) or 0
        for number, content in enumerate(contents, start=position + 1):
            role = Role.user if (number - position) % 2 else Role.assistant
            row = {"status": MessageStatus.completed, "role": role, "content": content, "position": number}
            await session.execute(insert(Message).values(conversation_id=UUID(id), **row))


async def make_long(database: Database, id: str, count: int) -> list[UUID]:
    """Appends many messages, each of which follows the one before; returns their ids."""
    ids = [uuid7() for _ in range(count)]
    row = {"conversation_id": UUID(id), "status": MessageStatus.completed, "content": "x" * 100}
    rows = [
        row
        | {"id": own, "parent_id": parent, "position": position}
        | {"role": Role.user if position % 2 else Role.assistant}
        for position, (own, parent) in enumerate(zip(ids, [UUID(id), *ids], strict=False), start=1)
    ]
    async with database.write() as session:
        await session.execute(insert(Message), rows)
        await session.execute(text("ANALYZE"))
    return ids


async def test_conversations_of_versions_before_go_on_and_branch(
    alice: httpx2.AsyncClient, app: FastAPI, model: Counting
) -> None:
    first = await send(alice, "one")
    id = first["conversation_id"]
    await send(alice, "two", conversation_id=id)
    before = (await messages(alice, id))["items"]
    await forget_parents(app.state.database, id)
    assert (await messages(alice, id))["items"] == before
    assert (await messages(alice, id, leaf=before[-1]["id"]))["items"] == before
    assert [item["id"] for item in (await alice.get(CONVERSATIONS)).json()["items"]] == [id]
    await send(alice, "three", conversation_id=id)
    assert [message.text for message in model.heard[-1]] == ["one", "reply 1", "two", "reply 2", "three"]
    await send(alice, "deux", replaces=before[2]["id"])
    assert [message.text for message in model.heard[-1]] == ["one", "reply 1", "deux"]
    assert await branch(alice, id) == ["one", "reply 1", "deux", "reply 4"]
    assert (await show(alice, id, first["id"])).status_code == 200
    assert await branch(alice, id) == ["one", "reply 1", "deux", "reply 4"]
    await show(alice, id, before[3]["id"])
    assert await branch(alice, id) == ["one", "reply 1", "two", "reply 2", "three", "reply 3"]


async def test_a_reply_of_a_version_before_is_regenerated(
    alice: httpx2.AsyncClient, app: FastAPI, model: Counting
) -> None:
    first = await send(alice, "one")
    await forget_parents(app.state.database, first["conversation_id"])
    second = await regenerate(alice, first["id"])
    [_, reply] = (await messages(alice, first["conversation_id"]))["items"]
    assert reply["siblings"] == [first["id"], second["id"]]


async def test_what_a_version_before_appends_to_branches_is_not_lost(
    alice: httpx2.AsyncClient, app: FastAPI, model: Counting
) -> None:
    """Simulates a rolling deployment: the same conversation is continued by both versions."""
    first = await send(alice, "one")
    id = first["conversation_id"]
    await regenerate(alice, first["id"])
    await append_as_before(app.state.database, id, "of before", "reply of before")
    await send(alice, "two", conversation_id=id)
    assert await branch(alice, id) == ["one", "reply 2", "of before", "reply of before", "two", "reply 3"]


async def test_deep_branches_are_read_in_part(alice: httpx2.AsyncClient, app: FastAPI, model: Counting) -> None:
    id = (await alice.post(CONVERSATIONS, json={})).json()["id"]
    ids = await make_long(app.state.database, id, DEEP)
    await regenerate(alice, str(ids[1]))
    assert await branch(alice, id) == ["x" * 100, "reply 1"]
    shown = await show(alice, id, str(ids[1]))
    assert shown.json()["active_message_id"] == str(ids[-1])
    cost = await cost_of_reading(app, alice, f"{CONVERSATIONS}/{id}/messages")
    assert len(cost.statements) <= 5, cost.statements
    with statements(app) as found, executed(app, "messages") as run:
        await send(alice, "last", conversation_id=id)
        await branch(alice, id, limit=100)
    assert len(found) <= 13 + 5, found
    await assert_little_is_read(app.state.database, run)
    assert len(model.heard[-1]) <= HISTORY_MAX_MESSAGES + 1
    assert len((await messages(alice, id, limit=100))["items"]) == 100


async def test_alternatives_are_limited(
    alice: httpx2.AsyncClient, model: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_SIBLINGS", 3)
    first = await send(alice, "one")
    id = first["conversation_id"]
    question = (await messages(alice, id))["items"][0]["id"]
    for _ in range(2):
        await regenerate(alice, first["id"])
        await send(alice, "edited", replaces=question)
    for path, body in ((f"{SEND}/{first['id']}/regenerate", {}), (SEND, {"content": "more", "replaces": question})):
        answer = await alice.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "too_many_alternatives")


async def test_two_devices_edit_and_regenerate_at_once(alice: httpx2.AsyncClient, model: Counting) -> None:
    first = await send(alice, "one")
    id, path = first["conversation_id"], f"{CONVERSATIONS}/{first['conversation_id']}"
    question = (await messages(alice, id))["items"][0]["id"]
    asked = [
        *(alice.post(SEND, json={"content": f"edit {n}", "replaces": question}) for n in range(4)),
        *(alice.post(f"{SEND}/{first['id']}/regenerate", json={}) for _ in range(4)),
        *(alice.patch(path, json={"active_message_id": first["id"]}) for _ in range(4)),
        *(alice.post(SEND, json={"content": f"more {n}", "conversation_id": id}) for n in range(4)),
    ]
    answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} <= {200, 201}
    [root, reply, *_] = (await messages(alice, id, leaf=first["id"]))["items"]
    assert (len(root["siblings"]), len(reply["siblings"])) == (5, 5)
    shown = (await messages(alice, id))["items"]
    assert [message["role"] for message in shown] == ["user", "assistant"] * (len(shown) // 2)
    assert (await alice.get(path)).json()["active_message_id"] == shown[-1]["id"]


Answer = Coroutine[Any, Any, httpx2.Response]
Ask = Callable[[httpx2.AsyncClient, dict[str, Any], str], Answer]


async def edit(client: httpx2.AsyncClient, created: dict[str, Any], _: str) -> httpx2.Response:
    return await client.post(SEND, json={"content": "edited", "replaces": created["user_message"]["id"]})


async def again(client: httpx2.AsyncClient, created: dict[str, Any], _: str) -> httpx2.Response:
    return await client.post(f"{SEND}/{created['reply_id']}/regenerate", json={})


async def after(client: httpx2.AsyncClient, _: dict[str, Any], id: str) -> httpx2.Response:
    return await client.post(SEND, json={"content": "after", "conversation_id": id})


async def begin_endless(client: httpx2.AsyncClient, endless: Endless) -> tuple[asyncio.Task[Any], list[dict[str, Any]]]:
    """Sends a message whose reply goes on until the test ends it; returns the request and the two messages."""
    sending = asyncio.create_task(client.post(SEND, json={"content": "endless"}))
    await endless.thinks.wait()
    endless.thinks.clear()
    [conversation] = (await client.get(CONVERSATIONS)).json()["items"]
    return sending, (await messages(client, conversation["id"]))["items"]


@pytest.mark.parametrize("ask", [edit, again])
async def test_a_branch_begins_beside_a_reply_under_way(alice: httpx2.AsyncClient, app: FastAPI, ask: Ask) -> None:
    app.state.replies._ai = endless = Endless("so far", ", the end")
    sending, [question, reply] = await begin_endless(alice, endless)
    created = {"user_message": question, "reply_id": reply["id"]}
    other = asyncio.create_task(ask(alice, created, question["conversation_id"]))
    await endless.thinks.wait()  # it does not wait for the first
    endless.go_on.set()
    assert {(await done).json()["content"] for done in (sending, other)} == {"so far, the end"}
    assert (await messages(alice, question["conversation_id"], leaf=reply["id"]))["items"][-1]["status"] == "completed"


async def test_a_message_after_an_edited_one_waits_for_its_reply(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    app.state.replies._ai = endless = Endless("so far", ", the end")
    sending, [question, reply] = await begin_endless(alice, endless)
    id = question["conversation_id"]
    editing = asyncio.create_task(edit(alice, {"user_message": question}, id))
    await endless.thinks.wait()
    following = asyncio.create_task(after(alice, {}, id))
    endless.go_on.set()
    await asyncio.gather(sending, editing, following)
    assert [message.text for message in endless.heard[-1]] == ["edited", "so far, the end", "after"]
    assert await branch(alice, id) == ["edited", "so far, the end", "after", "so far, the end"]
    assert await branch(alice, id, leaf=reply["id"]) == ["endless", "so far, the end"]


@pytest.mark.parametrize(("ask", "status"), [(edit, 201), (again, 201), (after, 409)])
async def test_where_messages_do_not_wait_a_reply_under_way_is_a_conflict(
    alice: httpx2.AsyncClient, app: FastAPI, ask: Ask, status: int
) -> None:
    app.state.chat_settings = app.state.chat_settings.model_copy(update={"concurrent_messages": "reject"})
    app.state.replies._ai = endless = Endless("so far")
    sending, [question, reply] = await begin_endless(alice, endless)
    created = {"user_message": question, "reply_id": reply["id"]}
    asking = asyncio.create_task(ask(alice, created, question["conversation_id"]))
    if status == 409:
        assert (await asking).json()["code"] == "conversation_busy"
    endless.go_on.set()
    assert ((await asking).status_code, (await sending).status_code) == (status, 201)


@pytest.mark.parametrize("path", ["/api/v1/users/me", CONVERSATIONS])
async def test_replies_that_are_deleted_end_and_those_that_wait_ask_no_model(
    alice: httpx2.AsyncClient, app: FastAPI, path: str
) -> None:
    app.state.replies._ai = endless = Endless("so far")
    sending, [question, _] = await begin_endless(alice, endless)
    waiting = asyncio.create_task(after(alice, {}, question["conversation_id"]))
    await stored(alice, 4)
    subject = f"{path}/{question['conversation_id']}" if path == CONVERSATIONS else path
    assert (await alice.delete(subject)).status_code == 204
    async with asyncio.timeout(20):
        answers = [(await asked).json() for asked in (sending, waiting)]
    assert [(answer["status"], answer["code"]) for answer in answers] == [("failed", "conversation_deleted")] * 2
    assert len(endless.heard) == 1


async def test_a_key_of_a_version_before_still_counts(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    body = {"content": "once", "model": None}
    await alice.post(SEND, json=body, headers={"Idempotency-Key": "mine"})
    async with app.state.database.read() as session:
        [stored] = (await session.scalars(select(IdempotencyKey.fingerprint))).all()
    assert stored == fingerprint('message {"content":"once","conversation_id":null,"model":null}')
