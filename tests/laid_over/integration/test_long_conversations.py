"""Tests that requests read few rows, however long conversations are and however many there are."""

from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import insert, text
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.models.base import now
from app.models.conversation import Conversation
from app.models.message import Message, MessageStatus, Role
from app.repositories.reply import ReplyRepository
from tests.chats import CONVERSATIONS, SEND
from tests.counting import assert_little_is_read, executed, explained, listening

LENGTH, PAGE = 10_000, 50
EXPORT, PAGES = "/api/v1/users/me/export", LENGTH // 200


@pytest.fixture(params=[1, LENGTH // 2], ids=["long", "many"])
async def conversation(request: pytest.FixtureRequest, alice: httpx2.AsyncClient, database: Database) -> str:
    """Returns the id of one of the conversations, which hold the same number of messages in all."""
    at, user_id = now(), UUID((await alice.get("/api/v1/users/me")).json()["id"])
    conversations = [
        {"id": uuid7(), "created_at": at, "updated_at": at, "user_id": user_id, "title": "What was said"}
        for _ in range(request.param)
    ]
    state = {"created_at": at, "stop_requested": False, "status": MessageStatus.completed}
    rows = [
        {
            **state,
            "id": uuid7(),
            "conversation_id": conversation["id"],
            "position": position,
            "role": (Role.assistant, Role.user)[position % 2],
            "content": f"message {position}",
        }
        for conversation in conversations
        for position in range(1, LENGTH // request.param + 1)
    ]
    async with database.write() as session:
        await session.execute(insert(Conversation), conversations)
        await session.execute(insert(Message), rows)
        await session.execute(text("ANALYZE"))
    return str(conversations[0]["id"])


async def test_a_page_reads_a_page(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database, conversation: str
) -> None:
    params: dict[str, Any] = {"limit": PAGE}
    for _ in range(2):
        with executed(app, "messages") as found:
            page = (await alice.get(f"{CONVERSATIONS}/{conversation}/messages", params=params)).json()
        await assert_little_is_read(database, found)
        params["cursor"] = page["next_cursor"] or page["items"][-1]["id"]


async def test_a_message_reads_what_the_model_is_sent(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database, conversation: str
) -> None:
    with executed(app, "conversations") as found:
        answer = await alice.post(SEND, json={"conversation_id": conversation, "content": "hello"})
        assert (await alice.get(f"{SEND}/{answer.json()['id']}/stream")).status_code == 200
    assert answer.status_code == 201
    await assert_little_is_read(database, found)


@pytest.mark.usefixtures("conversation")
async def test_a_page_of_conversations_reads_a_page(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database
) -> None:
    params: dict[str, Any] = {"limit": PAGE}
    with executed(app, "conversations") as found:
        page = (await alice.get(CONVERSATIONS, params=params)).json()
        await alice.get(CONVERSATIONS, params={**params, "cursor": page["items"][-1]["id"]})
    assert len(found) == 2
    await assert_little_is_read(database, found)


@pytest.mark.usefixtures("conversation")
async def test_a_page_of_an_export_reads_a_page(app: FastAPI, alice: httpx2.AsyncClient, database: Database) -> None:
    """Reads the last page as cheaply as the first; to know how many rows depend on what, each is counted once."""
    with executed(app, "FROM messages") as found:
        exported = (await alice.get(EXPORT)).json()
    assert len({row["id"] for row in exported["messages"]}) == len(exported["messages"]) == LENGTH
    pages = [(statement, values) for statement, values in found if "count(" not in statement]
    await assert_little_is_read(database, pages)


@pytest.mark.usefixtures("conversation")
async def test_an_export_asks_as_often_as_it_has_pages(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    asked = list[str]()
    with listening(app, before_cursor_execute=lambda _c, _u, statement, *_: asked.append(statement)):
        await alice.get(EXPORT)
    of_messages = [statement for statement in asked if "FROM messages" in statement and "status" not in statement]
    assert len([statement for statement in asked if "messages.content" in statement]) <= PAGES + 1
    assert len(of_messages) <= PAGES // 2 + 1


@pytest.mark.usefixtures("conversation")
async def test_what_a_process_looks_for_again_and_again_is_found_by_an_index(app: FastAPI, database: Database) -> None:
    with executed(app, "FROM messages") as found:
        async with app.state.database.read() as session:
            replies = ReplyRepository(session)
            await replies.list_wanted(uuid7())
            await replies.abandoned(uuid7())
            await replies.states([uuid7()])
    assert len(found) >= 3
    await assert_little_is_read(database, found)


@pytest.mark.usefixtures("conversation")
async def test_a_plan_that_reads_all_is_found(database: Database) -> None:
    assert await explained(database, "SELECT * FROM messages WHERE content LIKE '%nobody%'", ())
