import asyncio
from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.services.ai import ModelFailure, Prompt
from app.services.chat.titles import READ, WRITTEN, to_title
from tests.chats import CONVERSATIONS, SEND, Endless, Scripted


class Failing(Scripted):
    async def stream(self, prompt: Prompt) -> AsyncGenerator[str]:
        yield "half a title"
        raise ModelFailure("model_unavailable", "The model cannot be reached.")


@pytest.fixture(autouse=True)
def _title_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TITLE_MODEL", "demo")


@pytest.fixture
def model(app: FastAPI) -> Scripted:
    return use(app, Scripted('# "Trains to', ' Lisbon"\n', "and more"))


def use(app: FastAPI, model: Any) -> Any:
    app.state.titles._model._ai = model
    return model


async def title(app: FastAPI, client: httpx2.AsyncClient, conversation_id: str) -> str:
    await app.state.worker.drain()
    return (await client.get(f"{CONVERSATIONS}/{conversation_id}")).json()["title"]


async def send(client: httpx2.AsyncClient, content: str, **more: Any) -> str:
    return (await client.post(SEND, json={"content": content, **more})).json()["conversation_id"]


async def test_the_first_exchange_gets_a_title_once(app: FastAPI, alice: httpx2.AsyncClient, model: Scripted) -> None:
    id = await send(alice, "x" * 5_000)
    assert await title(app, alice, id) == "Trains to Lisbon"
    await send(alice, "And back?", conversation_id=id)
    await app.state.worker.drain()
    [[asked]] = model.heard
    assert READ < len(asked.text) < 2 * READ + 100


async def test_a_title_that_somebody_chose_stays(app: FastAPI, alice: httpx2.AsyncClient, model: Scripted) -> None:
    chosen = (await alice.post(CONVERSATIONS, json={"title": "Plans"})).json()["id"]
    await send(alice, "hello", conversation_id=chosen)
    assert await title(app, alice, chosen) == "Plans"
    assert model.heard == []


async def test_a_title_that_changes_meanwhile_stays(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    slow = use(app, Endless("A title"))
    id = await send(alice, "hello")
    async with asyncio.TaskGroup() as group:
        group.create_task(app.state.worker.drain())
        await slow.thinks.wait()
        await alice.patch(f"{CONVERSATIONS}/{id}", json={"title": "Mine"})
        slow.go_on.set()
    assert await title(app, alice, id) == "Mine"


async def test_a_model_that_fails_leaves_the_title(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    use(app, Failing())
    assert await title(app, alice, await send(alice, "hello")) == "hello"


@pytest.mark.usefixtures("model")
async def test_what_a_title_uses_is_counted(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    await title(app, alice, await send(alice, "hello"))
    usage = (await alice.get("/api/v1/usage")).json()
    assert [(row["feature"], row["requests"]) for row in usage["days"]] == [("chat", 2)]
    assert Decimal(usage["days"][0]["cost"] or 0) == 0


@pytest.mark.parametrize(
    ("text", "written"),
    [("", ""), ("\n **Trains** \n", "Trains"), ("“a\tb”.", "a b"), ("x" * 99, "x" * WRITTEN), ("\0 \n---\nb", "b")],
)
def test_a_title_is_one_short_line(text: str, written: str) -> None:
    assert to_title(text) == written
