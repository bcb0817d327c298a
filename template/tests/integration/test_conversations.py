import asyncio
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.repositories.message import MessageRow
from app.schemas.message import BranchMessageRead, FeedbackRead, UsageRead
from app.services.chat.conversations import TITLE_CHARACTERS
from tests.chats import CONVERSATIONS, SEND, STREAM, Scripted, messages


@pytest.fixture
def model(app: FastAPI) -> Scripted:
    app.state.replies._ai = model = Scripted("Yes", ", ", "indeed.")
    return model


def test_rows_of_a_page_have_every_field_of_a_message() -> None:
    """Finds fields with a default that `MessageRow` lacks, which lists would silently answer as null."""
    for schema in (BranchMessageRead, UsageRead, FeedbackRead):
        assert schema.model_fields.keys() <= set(dir(MessageRow)), "add the column to MessageRow"


async def test_renaming_and_deleting_at_once(alice: httpx2.AsyncClient) -> None:
    for _ in range(5):
        path = f"{CONVERSATIONS}/{(await alice.post(CONVERSATIONS, json={})).json()['id']}"
        renaming = [alice.patch(path, json={"title": str(n)}) for n in range(6)]
        answers = await asyncio.gather(*renaming[:3], alice.delete(path), *renaming[3:])
        assert {answer.status_code for answer in answers} <= {200, 204, 404}


async def test_conversations_are_made_listed_renamed_and_deleted(alice: httpx2.AsyncClient) -> None:
    made = await alice.post(CONVERSATIONS, json={"title": "Plans"})
    assert made.status_code == 201
    path = f"{CONVERSATIONS}/{made.json()['id']}"
    renamed = await alice.patch(path, json={"title": "New plans"})
    assert renamed.json()["title"] == "New plans"
    assert (await alice.get(path)).json() == renamed.json()
    assert (await alice.delete(path)).status_code == 204
    assert (await alice.get(path)).status_code == 404
    assert (await alice.get(CONVERSATIONS)).json() == {"items": [], "next_cursor": None}


async def test_a_title_is_the_beginning_of_the_first_message(alice: httpx2.AsyncClient) -> None:
    await alice.post(SEND, json={"content": "word \n" * 30})
    [conversation] = (await alice.get(CONVERSATIONS)).json()["items"]
    assert conversation["title"] == ("word " * 30)[:TITLE_CHARACTERS].strip()


async def test_a_conversation_that_was_made_first_gets_its_title_from_the_first_message(
    alice: httpx2.AsyncClient,
) -> None:
    unnamed, named = [(await alice.post(CONVERSATIONS, json=body)).json() for body in ({}, {"title": "Plans"})]
    for conversation in (unnamed, named):
        for content in ("Which train?", "And back?"):
            await alice.post(SEND, json={"content": content, "conversation_id": conversation["id"]})
    titles = [(await alice.get(f"{CONVERSATIONS}/{one['id']}")).json()["title"] for one in (unnamed, named)]
    assert titles == ["Which train?", "Plans"]


async def test_the_conversation_that_was_just_used_comes_first(alice: httpx2.AsyncClient) -> None:
    ids = [(await alice.post(CONVERSATIONS, json={"title": str(n)})).json()["id"] for n in range(3)]
    for n in (1, 0):
        await alice.post(SEND, json={"content": "hello", "conversation_id": ids[n]})
    await alice.patch(f"{CONVERSATIONS}/{ids[2]}", json={"title": "renamed"})
    assert await listed(alice) == [ids[0], ids[1], ids[2]]
    first = (await alice.get(CONVERSATIONS, params={"limit": 2})).json()
    assert await listed(alice, cursor=first["next_cursor"]) == [ids[2]]


async def test_conversations_are_pinned_and_archived(alice: httpx2.AsyncClient) -> None:
    ids = [(await alice.post(CONVERSATIONS, json={"title": str(n)})).json()["id"] for n in range(3)]
    await alice.patch(f"{CONVERSATIONS}/{ids[0]}", json={"pinned": True})
    archived = await alice.patch(f"{CONVERSATIONS}/{ids[1]}", json={"archived": True})
    assert (archived.json()["archived"], archived.json()["pinned"]) == (True, False)
    assert await listed(alice) == [ids[2], ids[0]]
    assert await listed(alice, archived=True) == [ids[1]]
    assert (await listed(alice, pinned=True), await listed(alice, pinned=False)) == ([ids[0]], [ids[2]])
    await alice.post(SEND, json={"content": "hello", "conversation_id": ids[1]})
    await alice.patch(f"{CONVERSATIONS}/{ids[1]}", json={"archived": False})
    assert await listed(alice) == [ids[1], ids[2], ids[0]]


async def listed(client: httpx2.AsyncClient, **query: Any) -> list[str]:
    return [item["id"] for item in (await client.get(CONVERSATIONS, params=query)).json()["items"]]


@pytest.mark.parametrize("body", [{"pinned": None}, {"archived": "perhaps"}, {"active_message_id": None}])
async def test_a_change_that_is_refused(alice: httpx2.AsyncClient, body: dict[str, object]) -> None:
    made = await alice.post(CONVERSATIONS, json={})
    assert (await alice.patch(f"{CONVERSATIONS}/{made.json()['id']}", json=body)).status_code == 422


@pytest.mark.parametrize("body", [{"title": ""}, {"title": " "}, {"title": "x" * 201}, {"title": None}, {"name": "x"}])
async def test_a_conversation_that_is_refused(alice: httpx2.AsyncClient, body: dict[str, object]) -> None:
    assert (await alice.post(CONVERSATIONS, json=body)).status_code == 422


async def test_conversations_come_in_pages_newest_first(alice: httpx2.AsyncClient) -> None:
    ids = [(await alice.post(CONVERSATIONS, json={"title": str(n)})).json()["id"] for n in range(5)]
    seen: list[str] = []
    cursor = None
    for _ in range(3):
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await alice.get(CONVERSATIONS, params=params)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert (seen, cursor) == (ids[::-1], None)


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"cursor": "x"}])
async def test_a_page_that_is_refused(alice: httpx2.AsyncClient, query: dict[str, Any]) -> None:
    assert (await alice.get(CONVERSATIONS, params=query)).status_code == 422


async def test_messages_come_in_pages_backwards(alice: httpx2.AsyncClient, model: Scripted) -> None:
    id = (await alice.post(SEND, json={"content": "0"})).json()["conversation_id"]
    for n in range(1, 3):
        await alice.post(SEND, json={"content": str(n), "conversation_id": id})
    newest = await messages(alice, id, limit=4)
    older = await messages(alice, id, limit=4, cursor=newest["next_cursor"])
    assert [m["content"] for m in newest["items"]] == ["1", "Yes, indeed.", "2", "Yes, indeed."]
    assert [m["content"] for m in older["items"]] == ["0", "Yes, indeed."]
    assert older["next_cursor"] is None


async def test_what_is_anothers_does_not_exist(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    id = (await alice.post(SEND, json={"content": "secret"})).json()["conversation_id"]
    path = f"{CONVERSATIONS}/{id}"
    answers = [
        await bob.get(path),
        await bob.patch(path, json={"title": "mine"}),
        await bob.delete(path),
        await bob.get(f"{path}/messages"),
        await bob.post(SEND, json={"content": "hello", "conversation_id": id}),
        await bob.post(STREAM, json={"content": "hello", "conversation_id": id}),
    ]
    assert [answer.status_code for answer in answers] == [404] * 6
    assert (await bob.get(CONVERSATIONS)).json()["items"] == []
    assert len((await messages(alice, id))["items"]) == 2


async def test_a_foreign_cursor_tells_nothing(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    theirs = (await alice.post(SEND, json={"content": "secret"})).json()["id"]
    mine = (await bob.post(SEND, json={"content": "hello"})).json()["conversation_id"]
    assert (await messages(bob, mine, cursor=theirs))["items"] == []
