import asyncio
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from tests.chats import CONVERSATIONS, SEND, Endless, Scripted, messages


@pytest.fixture(autouse=True)
def _model(app: FastAPI) -> None:
    app.state.replies._ai = Scripted("Yes.")


async def say(client: httpx2.AsyncClient, content: str, **more: Any) -> dict[str, Any]:
    answer = await client.post(SEND, json={"content": content, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def search(client: httpx2.AsyncClient, query: str, **more: Any) -> list[dict[str, Any]]:
    answer = await client.get(CONVERSATIONS, params={"query": query, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def ids(client: httpx2.AsyncClient, query: str, **more: Any) -> list[str]:
    return [item["id"] for item in await search(client, query, **more)]


async def test_conversations_are_found_by_all_words_of_a_message_or_of_the_title(alice: httpx2.AsyncClient) -> None:
    first = (await say(alice, "Which Train goes to <b>Lisbon</b>?"))["conversation_id"]
    await say(alice, "And back from\nLisbon?", conversation_id=first)
    titled = (await alice.post(CONVERSATIONS, json={"title": "Lisbon plans"})).json()["id"]
    assert [(one["id"], one["snippet"]) for one in await search(alice, "lisbon")] == [
        (titled, None),
        (first, "And back from Lisbon?"),
    ]
    assert "<b>Lisbon</b>" in (await search(alice, "LISBON train"))[0]["snippet"]
    assert await ids(alice, "lisbon boat") == await ids(alice, "Lisb") == []
    assert (await alice.get(CONVERSATIONS)).json()["items"][0]["snippet"] is None


async def test_a_search_has_pages_and_keeps_to_the_list(alice: httpx2.AsyncClient) -> None:
    found = [(await say(alice, f"word {n}"))["conversation_id"] for n in range(5)]
    await alice.patch(f"{CONVERSATIONS}/{found[1]}", json={"archived": True})
    await alice.patch(f"{CONVERSATIONS}/{found[2]}", json={"pinned": True})
    page = (await alice.get(CONVERSATIONS, params={"query": "word", "limit": 2})).json()
    assert [one["id"] for one in page["items"]] == [found[4], found[3]]
    assert await ids(alice, "word", limit=2, cursor=page["next_cursor"]) == [found[2], found[0]]
    assert (await ids(alice, "word", archived=True), await ids(alice, "word", pinned=True)) == ([found[1]], [found[2]])


@pytest.mark.parametrize("query", ["日", "本語", "日本語", "日本 話す", "한국", "ｶﾅ", "話す open"])
async def test_scripts_without_spaces_between_words(alice: httpx2.AsyncClient, query: str) -> None:
    found = (await say(alice, "私は日本語を話す。OPEN話 한국어를 ｶﾅ"))["conversation_id"]
    await say(alice, "語話 し")
    assert await ids(alice, query) == [found]
    assert await ids(alice, "語本") == []


@pytest.mark.parametrize(
    "query", ['"', "*", "a" * 200, "NEAR(lisbon, 2)", "lisbon AND", "NOT -x", "words:lisbon", "²", "'", "\\"]
)
async def test_nothing_is_an_operator(alice: httpx2.AsyncClient, query: str) -> None:
    await say(alice, "Lisbon")
    assert await ids(alice, query) == []


@pytest.mark.parametrize(
    "query", ['"lisbon"', "lisbon*", "-LISBON", "(spring: lisbon)", "near & lisbon", "LISBON's", "3.5"]
)
async def test_punctuation_only_separates_words(alice: httpx2.AsyncClient, query: str) -> None:
    found = (await say(alice, "Lisbon's spring/near: 3.5"))["conversation_id"]
    assert await ids(alice, query) == [found]


@pytest.mark.parametrize("query", ["", " \n", "a\0b", "x" * 201])
async def test_a_search_that_is_refused(alice: httpx2.AsyncClient, query: str) -> None:
    assert (await alice.get(CONVERSATIONS, params={"query": query})).status_code == 422


async def test_another_persons_words_are_not_found(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    await say(alice, "secret")
    me = (await alice.get("/api/v1/users/me")).json()["id"]
    await say(bob, f"user {me} secret")
    assert "user" in (await search(bob, "secret"))[0]["snippet"]
    assert [one["snippet"] for one in await search(alice, "secret")] == ["secret"]


async def test_all_branches_are_found_and_what_is_deleted_is_gone(alice: httpx2.AsyncClient) -> None:
    reply = await say(alice, "old words")
    id = reply["conversation_id"]
    first = (await messages(alice, id))["items"][0]["id"]
    await say(alice, "new words", replaces=first)
    assert await ids(alice, "old") == await ids(alice, "new") == [id]
    await alice.patch(f"{CONVERSATIONS}/{id}", json={"title": "renamed"})
    assert await ids(alice, "renamed") == [id]
    await alice.delete(f"{CONVERSATIONS}/{id}")
    assert await ids(alice, "words") == []


async def test_a_reply_is_found_once_it_has_ended(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.replies._ai = model = Endless("zebra", " crossing")
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(say(alice, "hello"))
        await model.thinks.wait()
        assert await ids(alice, "zebra") == []
        model.go_on.set()
    assert await ids(alice, "zebra crossing") == [(await sending)["conversation_id"]]


async def test_a_snippet_is_the_text_around_the_first_word(alice: httpx2.AsyncClient) -> None:
    await say(alice, f"{'before ' * 100}needle{' after' * 100}")
    [found] = await search(alice, "needle")
    assert len(found["snippet"]) == 200
    assert found["snippet"].startswith("…")
    assert "before needle after" in found["snippet"]
    assert found["snippet"].endswith("…")
