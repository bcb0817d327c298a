"""Tests that an edited message and a regenerated reply begin branches of their own."""

from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from app.services.ai import AssistantMessage, UserMessage
from tests.chats import CONVERSATIONS, SEND, Scripted, events_of, messages


class Counting(Scripted):
    """Replies with the number of the reply."""

    def hear(self, prompt: Any) -> None:
        super().hear(prompt)
        self.pieces = (f"reply {len(self.heard)}",)


@pytest.fixture
def model(app: FastAPI) -> Counting:
    app.state.replies._ai = model = Counting()
    return model


async def send(client: httpx2.AsyncClient, content: str, **more: Any) -> dict[str, Any]:
    answer = await client.post(SEND, json={"content": content, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def regenerate(client: httpx2.AsyncClient, reply_id: str, **more: Any) -> dict[str, Any]:
    answer = await client.post(f"{SEND}/{reply_id}/regenerate", json=more)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def branch(client: httpx2.AsyncClient, id: str, **query: Any) -> list[str]:
    return [message["content"] for message in (await messages(client, id, **query))["items"]]


async def show(client: httpx2.AsyncClient, id: str, message_id: str) -> httpx2.Response:
    return await client.patch(f"{CONVERSATIONS}/{id}", json={"active_message_id": message_id})


async def test_an_edited_message_begins_a_branch(alice: httpx2.AsyncClient, model: Counting) -> None:
    id = (await send(alice, "one"))["conversation_id"]
    await send(alice, "two", conversation_id=id)
    before = (await messages(alice, id))["items"]
    await send(alice, "three", conversation_id=id, replaces=before[2]["id"])
    after = (await messages(alice, id))["items"]
    assert [message["content"] for message in after] == ["one", "reply 1", "three", "reply 3"]
    assert after[:2] == before[:2]
    assert after[2]["siblings"] == [before[2]["id"], after[2]["id"]]
    assert after[3]["siblings"] == [after[3]["id"]]
    assert [message["parent_id"] for message in after] == [None, *(message["id"] for message in after[:3])]
    assert model.heard[2] == [UserMessage("one"), AssistantMessage("reply 1"), UserMessage("three")]
    assert await branch(alice, id, leaf=before[3]["id"]) == ["one", "reply 1", "two", "reply 2"]
    await send(alice, "four", conversation_id=id)
    assert model.heard[3] == [*model.heard[2], AssistantMessage("reply 3"), UserMessage("four")]


async def test_the_first_message_can_be_edited(alice: httpx2.AsyncClient, model: Counting) -> None:
    id = (await send(alice, "one"))["conversation_id"]
    [first, _] = (await messages(alice, id))["items"]
    await send(alice, "uno", replaces=first["id"])
    [edited, reply] = (await messages(alice, id))["items"]
    assert (edited["content"], edited["parent_id"], reply["content"]) == ("uno", None, "reply 2")
    assert edited["siblings"] == [first["id"], edited["id"]]
    assert model.heard[1] == [UserMessage("uno")]


async def test_a_regenerated_reply_stands_beside_the_first(alice: httpx2.AsyncClient, model: Counting) -> None:
    first = await send(alice, "one")
    second = await regenerate(alice, first["id"])
    id = first["conversation_id"]
    [question, reply] = (await messages(alice, id))["items"]
    assert (reply["content"], reply["siblings"]) == ("reply 2", [first["id"], second["id"]])
    assert (reply["parent_id"], question["siblings"]) == (question["id"], [question["id"]])
    assert model.heard == [[UserMessage("one")]] * 2
    created, *_, completed = events_of(await alice.post(f"{SEND}/{first['id']}/regenerate/stream", json={}))
    assert created.data["user_message"]["id"] == question["id"]
    assert completed.data["message"]["content"] == "reply 3"
    assert created.data["reply_id"] == completed.data["message"]["id"]


@pytest.mark.parametrize("characters", [3, 32_000])
async def test_a_regenerated_reply_knows_what_the_first_knew(
    alice: httpx2.AsyncClient, model: Counting, characters: int
) -> None:
    first = await send(alice, "y" * 1_000)
    second = await send(alice, "x" * characters, conversation_id=first["conversation_id"])
    await regenerate(alice, second["id"])
    assert model.heard[2] == model.heard[1]
    assert len(model.heard[1]) == 3


async def test_a_branch_is_shown_again_to_its_newest_end(alice: httpx2.AsyncClient, model: Counting) -> None:
    first = await send(alice, "one")
    id = first["conversation_id"]
    await send(alice, "two", conversation_id=id)
    await regenerate(alice, first["id"])
    assert await branch(alice, id) == ["one", "reply 3"]
    shown = await show(alice, id, first["id"])
    assert await branch(alice, id) == ["one", "reply 1", "two", "reply 2"]
    assert shown.json()["active_message_id"] == (await messages(alice, id))["items"][-1]["id"]
    await send(alice, "three", conversation_id=id)
    assert [message.text for message in model.heard[-1]] == ["one", "reply 1", "two", "reply 2", "three"]


async def test_a_message_follows_the_reply_that_it_names(alice: httpx2.AsyncClient, model: Counting) -> None:
    """Sends to a branch that another client has left, and to one that no client shows."""
    first = await send(alice, "one")
    id = first["conversation_id"]
    follow = await send(alice, "two", conversation_id=id, parent_id=first["id"])
    assert (await alice.get(f"{CONVERSATIONS}/{id}")).json()["active_message_id"] is None
    other = await regenerate(alice, first["id"])
    await send(alice, "three", parent_id=follow["id"])
    assert await branch(alice, id) == ["one", "reply 1", "two", "reply 2", "three", "reply 4"]
    await send(alice, "four", parent_id=first["id"])
    assert [message.text for message in model.heard[-1]] == ["one", "reply 1", "four"]
    assert await branch(alice, id, leaf=follow["id"]) == ["one", "reply 1", "two", "reply 2", "three", "reply 4"]
    assert await branch(alice, id, leaf=other["id"]) == ["one", "reply 3"]
    assert await branch(alice, id, leaf=first["id"]) == ["one", "reply 1", "four", "reply 5"]


async def test_pages_follow_the_branch(alice: httpx2.AsyncClient, model: Counting) -> None:
    first = await send(alice, "0")
    id = first["conversation_id"]
    for number in range(1, 4):
        await send(alice, str(number), conversation_id=id)
    await regenerate(alice, first["id"])
    for number in range(4, 6):
        await send(alice, str(number), conversation_id=id)
    newest = await messages(alice, id, limit=4)
    await show(alice, id, first["id"])
    older = await messages(alice, id, limit=4, cursor=newest["next_cursor"])
    shown = [message["content"] for message in (*older["items"], *newest["items"])]
    assert shown == [
        "0",
        "reply 5",
        "4",
        "reply 6",
        "5",
        "reply 7",
    ]
    assert older["next_cursor"] is None


@pytest.mark.parametrize("kind", ["of the wrong role", "unknown", "anothers", "of another conversation"])
@pytest.mark.parametrize("field", ["replaces", "parent_id"])
async def test_what_cannot_be_edited_or_followed(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, model: Counting, kind: str, field: str
) -> None:
    id, own = (await send(alice, "one"))["conversation_id"], 0 if field == "replaces" else 1
    ids = {"of the wrong role": (await messages(alice, id))["items"][1 - own]["id"], "unknown": str(uuid4())}
    for whose, client in (("anothers", bob), ("of another conversation", alice)):
        ids[whose] = (await messages(client, (await send(client, "two"))["conversation_id"]))["items"][own]["id"]
    answer = await alice.post(SEND, json={"content": "edited", "conversation_id": id, field: ids[kind]})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert len((await messages(alice, id))["items"]) == 2


async def test_a_message_has_one_place(alice: httpx2.AsyncClient, model: Counting) -> None:
    reply = await send(alice, "one")
    answer = await alice.post(SEND, json={"content": "two", "replaces": reply["id"], "parent_id": reply["id"]})
    assert answer.status_code == 422


async def test_only_own_replies_are_regenerated_and_only_own_messages_shown(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, model: Counting
) -> None:
    reply, theirs = await send(alice, "one"), await send(bob, "two")
    id, other = reply["conversation_id"], await send(alice, "three")
    question = (await messages(alice, id))["items"][0]["id"]
    for reply_id in (question, theirs["id"], str(uuid4())):
        assert (await alice.post(f"{SEND}/{reply_id}/regenerate", json={})).status_code == 404
    for message_id in (theirs["id"], other["id"], str(uuid4()), id):
        assert (await show(alice, id, message_id)).status_code == 404
        assert (await alice.get(f"{CONVERSATIONS}/{id}/messages", params={"leaf": message_id})).status_code == 404
    assert (await bob.get(f"{CONVERSATIONS}/{id}/messages", params={"leaf": reply["id"]})).status_code == 404


async def test_a_repeated_request_regenerates_once(alice: httpx2.AsyncClient, model: Counting) -> None:
    reply = await send(alice, "one")
    headers = {"Idempotency-Key": "again"}
    path = f"{SEND}/{reply['id']}/regenerate"
    answers = [await alice.post(path, json={}, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len(model.heard) == 2
    other = await alice.post(SEND, json={"content": "one"}, headers=headers)
    assert other.status_code == 409
