from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI

from app.models.tool import Policy
from app.services.tools import ToolContext
from app.services.tools.conversations import search_conversations
from tests.calls import call, context, refused
from tests.chats import SEND


async def of(app: FastAPI, client: httpx2.AsyncClient) -> ToolContext:
    me = (await client.get("/api/v1/users/me")).json()
    return context(app.state.database, UUID(me["id"]))


async def test_what_a_person_said_is_found(app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    await alice.post(SEND, json={"content": "Lisbon in spring?"})
    await alice.post(SEND, json={"content": f"{'x' * 999} or in autumn: Lisbon, {'y' * 999}"})
    said = await call(search_conversations, await of(app, alice), words="lisbon autumn")
    [question, *_] = sorted(said.split("\n\n"), key=len)
    assert "in “" in question
    assert "x or in autumn: Lisbon, y" in question
    assert len(question) < 800
    assert "spring" not in said
    assert "spring" in await call(search_conversations, await of(app, alice), words="Lisbon")
    assert await call(search_conversations, await of(app, bob), words="Lisbon") == "No message has all of these words."


@pytest.mark.parametrize("words", ["", " ", "a\0b", "x" * 201])
async def test_what_cannot_be_looked_for(words: str) -> None:
    assert "words: " in await refused(search_conversations, words=words)


def test_what_a_model_may_say() -> None:
    words = dict(search_conversations.input_schema["properties"]["words"])
    assert words.pop("description")
    assert words == {"type": "string", "maxLength": 200}
    assert search_conversations.input_schema["required"] == ["words"]
    assert search_conversations.policy is Policy.allow
