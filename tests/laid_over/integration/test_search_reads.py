"""Tests that a search reads few rows, whatever other people and the same person have stored."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, insert, select, text
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.models.base import now
from app.models.conversation import Conversation
from app.models.conversation_search import CONVERSATION_SEARCH
from app.models.message import Message, MessageStatus, Role
from app.repositories.conversation_search import WALKED
from tests.chats import CONVERSATIONS
from tests.counting import Executed, executed, explained, statements

CONVERSATIONS_OF_EACH = 100
OWN, THEIRS = 60, 180
"""Counts the messages of each conversation."""
INSTRUCTIONS = 100_000
"""Limits what SQLite does for a statement; it does several times as much if it looks at each message of one person."""


async def assert_little_is_read(database: Database, found: Sequence[Executed]) -> None:
    for statement, values in found:
        for step in await explained(database, statement, values):
            assert step.endswith(" instructions"), (step, statement)
            assert int(step.split()[0]) < INSTRUCTIONS, (step, statement)


async def user_id(client: httpx2.AsyncClient) -> UUID:
    return UUID((await client.get("/api/v1/users/me")).json()["id"])


def stored(user_id: UUID, each: int, words: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns conversations and messages, all of which have these words, and every thousandth one more."""
    at = now()
    of = {"created_at": at, "updated_at": at, "user_id": user_id, "title": "Untitled"}
    parents: list[dict[str, Any]] = [{**of, "id": uuid7()} for _ in range(CONVERSATIONS_OF_EACH)]
    state = {"created_at": at, "stop_requested": False, "status": MessageStatus.completed, "role": Role.user}
    messages: list[dict[str, Any]] = []
    for parent in parents:
        for position in range(1, each + 1):
            rare = "rare " if len(messages) % 1_000 == 0 else ""
            content = f"{rare}{words} and some others {uuid4().hex} {position}"
            place = {"id": uuid7(), "conversation_id": parent["id"], "position": position}
            messages.append({**state, **place, "content": content})
        parent["last_message_id"] = messages[-1]["id"]
    return parents, messages


@pytest.fixture(autouse=True)
async def _conversations(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, database: Database) -> None:
    for client, each, words in ((alice, OWN, "everywhere"), (bob, THEIRS, "everywhere theirs")):
        conversations, messages = stored(await user_id(client), each, words)
        async with database.write() as session:
            await session.execute(insert(Conversation), conversations)
            await session.execute(insert(Message), messages)
    async with database.write() as session:
        await session.execute(text("ANALYZE"))


@pytest.mark.parametrize(("query", "count"), [("theirs", 0), ("nowhere", 0), ("rare", 6), ("rare everywhere", 6)])
async def test_a_word_that_others_have_everywhere_is_no_work(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database, query: str, count: int
) -> None:
    with executed(app, "conversations") as found:
        page = (await alice.get(CONVERSATIONS, params={"query": query})).json()
    assert len(page["items"]) == count
    await assert_little_is_read(database, found)


async def test_a_word_that_is_in_every_message_fills_a_page_from_the_newest_conversations(
    app: FastAPI, alice: httpx2.AsyncClient, database: Database
) -> None:
    with executed(app, "FROM chat_search") as found:
        page = (await alice.get(CONVERSATIONS, params={"query": "everywhere"})).json()
    assert len(page["items"]) == 50
    assert len(found) == 2, "the page and the snippets, without all matches of the person"
    for statement, values in found:
        steps = await explained(database, statement, values)
        assert "Seq Scan" not in str(steps)
        assert all("Bitmap" in step or int(step.split()[0]) < INSTRUCTIONS for step in steps), (steps, statement)


@pytest.mark.parametrize(("query", "is_walked"), [("rare everywhere", False), ("nowhere", False), ("everywhere", True)])
async def test_many_conversations_are_looked_through_only_if_one_of_the_newest_has_the_words(
    app: FastAPI, alice: httpx2.AsyncClient, query: str, is_walked: bool
) -> None:
    with executed(app, "FROM chat_search") as found:
        await alice.get(CONVERSATIONS, params={"query": query})
    assert any(WALKED in tuple(values) for _statement, values in found) == is_walked


async def test_a_search_has_at_most_four_statements_more(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    with statements(app) as listing:
        await alice.get(CONVERSATIONS)
    with statements(app) as searching:
        await alice.get(CONVERSATIONS, params={"query": "rare"})
    assert len(searching) <= len(listing) + 3


async def test_what_is_deleted_leaves_no_entry(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, database: Database
) -> None:
    for item in (await alice.get(CONVERSATIONS, params={"query": "rare"})).json()["items"]:
        await alice.delete(f"{CONVERSATIONS}/{item['id']}")
    async with database.read() as session:
        left = await session.scalar(select(func.count(CONVERSATION_SEARCH.c.id)))
    assert left == (CONVERSATIONS_OF_EACH - 6) * (OWN + 1) + CONVERSATIONS_OF_EACH * (THEIRS + 1)
    assert (await alice.get(CONVERSATIONS, params={"query": "rare"})).json()["items"] == []
