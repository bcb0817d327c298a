"""Tests chat completions with an Idempotency-Key: each is given once, and as often as it is asked for."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx2
from fastapi import FastAPI
from sqlalchemy import update

from app.models.idempotency_key import IdempotencyKey
from app.services.ai import AssistantMessage, ModelFailure, Prompt, Reasoning
from tests.chats import Said, Scripted
from tests.conftest import MakeSettings, client_for, listening, running, sign_in
from tests.integration.test_chat_completions import COMPLETIONS, WEATHER, answer_of, chunks_of, complete, error_of
from tests.integration.test_chat_completions_faults import BODY, KEY, SHAPES, Costly, Failing, put, settled, spent


@SHAPES
async def test_whoever_leaves_with_a_key_finds_the_answer_later(
    alice: httpx2.AsyncClient, app: FastAPI, streams: bool
) -> None:
    model = put(app, Costly("so far", " and on"))
    async with listening(app) as url, httpx2.AsyncClient(base_url=url, headers=alice.headers) as client:
        leaving = asyncio.create_task(client.post(COMPLETIONS, json={**BODY, "stream": streams}, headers=KEY))
        await model.thinks.wait()
        early = await complete(alice, headers=KEY)
        assert (error_of(early), early.headers["retry-after"]) == ((409, "request_in_progress", None), "5")
        leaving.cancel()
        await asyncio.wait([leaving])
    model.go_on.set()
    async with asyncio.timeout(10):
        await settled(app)
    whole = await answer_of(alice, headers=KEY)
    assert whole["choices"][0]["message"]["content"] == "so far and on"
    assert whole["usage"] == {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
    first, *deltas, _finish = chunks_of(await complete(alice, stream=True, headers=KEY))
    assert [chunk["choices"][0]["delta"] for chunk in deltas] == [
        {"reasoning_content": "Hm."},
        {"content": "so far and on"},
    ]
    assert (first["id"], len(model.heard)) == (whole["id"], 1)
    assert await spent(alice) == [("acme:one", 1, 30, 12)]


async def test_calls_of_functions_are_kept_as_well(alice: httpx2.AsyncClient) -> None:
    first, again = [await answer_of(alice, tools=[WEATHER], headers=KEY) for _ in range(2)]
    assert first == again
    assert first["choices"][0]["message"]["tool_calls"]


async def test_a_key_is_for_one_request_of_one_person(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    await answer_of(alice, headers=KEY)
    for other in ({"temperature": 0.5}, {"messages": [{"role": "user", "content": "bye"}]}, {"max_tokens": 5}):
        assert error_of(await complete(alice, headers=KEY, **other)) == (409, "idempotency_key_reused", None)
    sent = await alice.post("/api/v1/chat/messages", json={"content": "hello"}, headers=KEY)
    assert sent.json()["code"] == "idempotency_key_reused"
    assert (await answer_of(bob, headers=KEY))["id"] != (await answer_of(alice, headers=KEY))["id"]


async def test_an_answer_that_failed_frees_its_key(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    put(app, Failing(ModelFailure("model_disconnected", "The connection was lost."), "so far"))
    assert error_of(await complete(alice, headers=KEY)) == (502, "model_disconnected", None)
    put(app, Scripted("Yes."))
    assert (await answer_of(alice, headers=KEY))["choices"][0]["message"]["content"] == "Yes."
    assert (await spent(alice))[0][1] == 2


async def test_a_request_whose_process_has_died_is_answered_by_another(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    first = await answer_of(alice, headers=KEY)
    async with app.state.database.write() as session:
        await session.execute(update(IdempotencyKey).values(answer=None))
    assert error_of(await complete(alice, headers=KEY)) == (409, "request_in_progress", None)
    async with app.state.database.write() as session:
        await session.execute(update(IdempotencyKey).values(process_id=uuid4()))
    second, again = [await answer_of(alice, headers=KEY) for _ in range(2)]
    assert first["id"] != second["id"] == again["id"]


async def test_of_many_at_once_with_a_key_one_is_answered(make_settings: MakeSettings) -> None:
    async with running(make_settings(demo_model_delay=0.02)) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        answers = await asyncio.gather(*(complete(client, headers=KEY) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
        assert (await spent(client))[0][1] == 1


async def test_what_a_budget_refuses_frees_its_key(make_settings: MakeSettings) -> None:
    settings = make_settings(tokens_per_day=120, ai_max_output_tokens=100)
    async with running(settings) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        long = [{"role": "user", "content": "x" * 100}]
        assert error_of(await complete(client, messages=long, headers=KEY))[0] == 402
        assert (await complete(client, headers=KEY)).status_code == 200


async def test_an_answer_with_a_key_is_stored_whatever_it_has(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    class Hostile(Scripted):
        @asynccontextmanager
        async def ask(self, prompt: Prompt) -> AsyncGenerator[Said]:
            async with super().ask(prompt) as answer:
                answer.message = AssistantMessage("a\0b\ud800", reasoning="c\0")
                yield answer

    put(app, Hostile(Reasoning("c\0"), "a\0", "b\ud800"))
    first, again = [await answer_of(alice, headers=KEY) for _ in range(2)]
    assert first["choices"] == again["choices"]
