"""Tests what replies cost the users who asked for them, and how much they may ask for."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update

from app.core.streams import base as events_module
from app.models.message import Message
from app.models.usage import Reservation
from app.services.ai import ModelFailure, ModelUsage, Prompt
from app.services.chat.recovery import ReplyRecovery
from tests.chats import CONVERSATIONS, SEND, STREAM, Endless, Said, Scripted, all_messages, stream
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.counting import statements
from tests.integration.test_errors import assert_problem

USAGE, ME = "/api/v1/usage", "/api/v1/users/me"
HELLO = {"content": "hello"}
SPENT = ModelUsage("acme:one", 30, 12, Decimal("0.000000042"))
NO_AUDIO = {"characters": 0, "seconds": 0}
ROW = {"feature": "chat", "model": "acme:one", "requests": 1, "input_tokens": 30, "output_tokens": 12, **NO_AUDIO}
Clients = list[httpx2.AsyncClient]


class Costly(Endless):
    """Waits in the middle of its reply, and has a price."""

    @asynccontextmanager
    async def ask(self, prompt: Prompt) -> AsyncGenerator[Said]:
        async with super().ask(prompt) as answer:
            answer.usage = SPENT
            yield answer


@pytest.fixture
def costly(app: FastAPI) -> Costly:
    app.state.replies._ai = model = Costly()
    return model


@asynccontextmanager
async def replicas(make_settings: MakeSettings, **settings: Any) -> AsyncGenerator[Clients]:
    """Yields one user's clients of two applications on one database, which share nothing else."""
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(running(make_settings(**settings))) for _ in range(2)]
        clients = [await stack.enter_async_context(client_for(app)) for app in apps]
        headers = await sign_in(clients[0], "alice@example.com")
        for client in clients:
            client.headers.update(headers)
        yield clients


async def usage(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    days = (await client.get(USAGE)).json()["days"]
    return [{name: value for name, value in day.items() if name != "day"} for day in days]


async def reservations(app: FastAPI) -> int:
    async with app.state.database.read() as session:
        return await session.scalar(select(func.count(Reservation.id)))


async def test_a_reply_is_counted_as_its_message_says(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    used = (await alice.post(SEND, json=HELLO)).json()["usage"]
    assert used["output_tokens"] > 20
    assert await usage(alice) == [{"feature": "chat", "requests": 1, **used, **NO_AUDIO}]
    assert await reservations(app) == 0


@pytest.mark.parametrize("end", ["completed", "stopped", "interrupted"])
async def test_however_a_reply_ends_it_is_counted(
    alice: httpx2.AsyncClient, app: FastAPI, costly: Costly, end: str
) -> None:
    reading = asyncio.create_task(stream(alice, "hello"))
    await costly.thinks.wait()
    assert await reservations(app) == 1
    match end:
        case "completed":
            costly.go_on.set()
        case "stopped":
            await alice.post(f"{SEND}/{(await all_messages(alice))[1]['id']}/stop")
        case _:
            await app.state.replies.finish(0)
    assert (await reading)[-1].type == f"message.{end}"
    assert await usage(alice) == [{**ROW, "cost": "0.000000042"}]
    assert await reservations(app) == 0


async def test_what_fails_before_a_model_is_asked_costs_nothing(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    class Closed(Scripted):
        @asynccontextmanager
        async def ask(self, prompt: Prompt) -> AsyncGenerator[Said]:
            raise ModelFailure("model_error", "No.")
            yield

    app.state.replies._ai = Closed()
    assert (await alice.post(SEND, json=HELLO)).json()["status"] == "failed"
    assert (await usage(alice), await reservations(app)) == ([], 0)


async def test_a_reply_whose_conversation_is_deleted_meanwhile_is_counted(
    alice: httpx2.AsyncClient, app: FastAPI, costly: Costly
) -> None:
    reading = asyncio.create_task(stream(alice, "hello"))
    await costly.thinks.wait()
    [conversation] = (await alice.get(CONVERSATIONS)).json()["items"]
    await alice.delete(f"{CONVERSATIONS}/{conversation['id']}")
    costly.go_on.set()
    assert (await reading)[-1].data["code"] == "conversation_deleted"
    assert await usage(alice) == [{**ROW, "cost": "0.000000042"}]
    assert await reservations(app) == 0


async def test_a_reply_whose_account_is_deleted_meanwhile_ends(
    alice: httpx2.AsyncClient, app: FastAPI, costly: Costly
) -> None:
    reading = asyncio.create_task(stream(alice, "hello"))
    await costly.thinks.wait()
    assert (await alice.delete(ME)).status_code == 204
    costly.go_on.set()
    assert (await reading)[-1].data["code"] == "conversation_deleted"
    assert await reservations(app) == 0


async def test_whoever_settles_the_reply_of_a_dead_process_gives_back_what_it_reserved(
    alice: httpx2.AsyncClient, app: FastAPI, costly: Costly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "KEEP_ALIVE_SECONDS", 0.1)
    state = app.state
    reading = asyncio.create_task(stream(alice, "hello"))
    await costly.thinks.wait()
    async with state.database.write() as session:
        await session.execute(update(Message).values(process_id=None))
    state.heartbeat._steady_since -= 60
    abandoned = ReplyRecovery(state.database, state.streams, state.heartbeat, lambda _id: False)
    async with asyncio.timeout(10):
        while await reservations(app):  # the row may be locked for a moment by the task that stores the text
            await abandoned.recover()
    costly.go_on.set()  # the process lives after all, and its reply is not counted twice
    await state.replies.finish(60)
    assert (await reading)[-1].type == "message.interrupted"
    assert await usage(alice) == []


async def test_a_budget_that_does_not_suffice_refuses_the_message(make_settings: MakeSettings) -> None:
    async with replicas(make_settings, tokens_per_day=120, ai_max_output_tokens=100) as (client, _):
        assert (await client.post(SEND, json=HELLO)).status_code == 201
        for path in (SEND, STREAM):
            answer = await client.post(path, json=HELLO)
            assert_problem(answer, 402, "budget_exhausted")
            assert " of your budget of 120 tokens a day remain. " in answer.json()["detail"]
            assert 0 < int(answer.headers["retry-after"]) <= 86_400
        assert len((await client.get(CONVERSATIONS)).json()["items"]) == 1


async def test_a_message_that_is_sent_again_is_reserved_once(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    headers = {"Idempotency-Key": "a key"}
    for _ in range(2):
        await alice.post(SEND, json=HELLO, headers=headers)
    [row] = await usage(alice)
    assert (row["requests"], await reservations(app)) == (1, 0)


async def test_many_messages_at_once_cannot_overspend(make_settings: MakeSettings) -> None:
    """Sends to both processes, and to new conversations as well as to one."""
    async with replicas(make_settings, tokens_per_month=350, ai_max_output_tokens=100) as clients:
        one = (await clients[0].post(CONVERSATIONS, json={})).json()["id"]
        bodies = [HELLO, {**HELLO, "conversation_id": one}] * 4
        sending = [client.post(SEND, json=body) for client in clients for body in bodies]
        answers = [answer.status_code for answer in await asyncio.gather(*sending)]
        assert set(answers) == {201, 402}
        spent = sum(row["input_tokens"] + row["output_tokens"] for row in await usage(clients[0]))
        assert 0 < spent <= 350


@pytest.mark.parametrize("limit", ["3", "0"])
async def test_so_many_replies_at_once(
    monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings, limit: str
) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_REPLIES", limit)
    async with replicas(make_settings, demo_model_delay=0.03) as clients:
        answers = await asyncio.gather(*(client.post(SEND, json=HELLO) for client in clients * 4))
        refused = [answer for answer in answers if answer.status_code != 201]
        assert len(refused) == (5 if limit == "3" else 0)
        for answer in refused:
            assert_problem(answer, 429, "too_many_replies")
            assert answer.json()["detail"].startswith("At most 3 of your replies are written at a time;")
        assert (await clients[0].post(SEND, json=HELLO)).status_code == 201


async def test_so_many_messages_a_minute(monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings) -> None:
    monkeypatch.setenv("MESSAGES_PER_MINUTE", "2")
    async with running(make_settings()) as app, client_for(app) as alice, client_for(app) as bob:
        for client, name in ((alice, "alice"), (bob, "bob")):
            client.headers.update(await sign_in(client, f"{name}@example.com"))
            assert [(await client.post(path, json=HELLO)).status_code for path in (SEND, STREAM)] == [201, 200]
            answer = await client.post(SEND, json=HELLO)
            assert_problem(answer, 429, "too_many_requests")
            assert 0 < int(answer.headers["retry-after"]) <= 60


async def test_without_limits_nothing_is_reserved(monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_REPLIES", "0")
    async with running(make_settings()) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        with statements(app) as found:
            await client.post(SEND, json=HELLO)
        assert not [statement for statement in found if "INSERT INTO usage_reservations" in statement]
