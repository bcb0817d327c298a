"""Tests chat completions where something goes wrong: models, clients, processes, limits; and what is paid for it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select

from app.models.idempotency_key import IdempotencyKey
from app.models.usage import Reservation
from app.services.ai import AssistantMessage, ModelFailure, ModelUsage, Piece, Prompt
from app.services.completions import models as models_module
from tests.chats import Endless, Said, Scripted
from tests.conftest import MakeSettings, client_for, listening, running, sign_in
from tests.integration.conftest import StartServer
from tests.integration.test_chat_completions import (
    COMPLETIONS,
    HELLO,
    USAGE,
    answer_of,
    chunks_of,
    complete,
    error_of,
)
from tests.server import Server

ME = "/api/v1/users/me"
BODY = {"model": "demo", "messages": HELLO}
KEY = {"Idempotency-Key": "one"}
SPENT = ModelUsage("acme:one", 30, 12, Decimal("0.000000042"))
SHAPES = pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])


class Costly(Endless):
    """Waits in the middle of its answer, and has a price. `ended` is set when it is left."""

    def __init__(self, first: Piece = "so far", *rest: Piece) -> None:
        super().__init__(first, *rest)
        self.ended = asyncio.Event()

    @asynccontextmanager
    async def ask(self, prompt: Prompt) -> AsyncGenerator[Said]:
        try:
            async with super().ask(prompt) as answer:
                answer.usage, answer.message = SPENT, AssistantMessage("so far and on", reasoning="Hm.")
                yield answer
        finally:
            self.ended.set()


class Failing(Scripted):
    """Fails after its pieces."""

    def __init__(self, failure: Exception, *pieces: Piece) -> None:
        super().__init__(*pieces)
        self.failure = failure

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        self.hear(prompt)
        for piece in self.pieces:
            yield piece
        raise self.failure


def put(app: FastAPI, model: Any) -> Any:
    """Lets this model answer."""
    app.state.completions = replace(app.state.completions, ai=model)
    return model


async def spent(client: httpx2.AsyncClient) -> list[tuple[str, int, int, int]]:
    days = (await client.get(USAGE)).json()["days"]
    return [(day["model"], day["requests"], day["input_tokens"], day["output_tokens"]) for day in days]


async def count(app: FastAPI, column: Any) -> int:
    async with app.state.database.read() as session:
        return await session.scalar(select(func.count(column)))


async def settled(app: FastAPI) -> None:
    """Waits until no answer is under way."""
    while tasks := app.state.completions.running._tasks:
        await asyncio.wait(tasks)


def failed_stream(answer: httpx2.Response) -> tuple[list[str], dict[str, Any]]:
    """Returns the texts of a stream, and the error with which it ends, without [DONE]."""
    assert answer.status_code == 200, answer.text
    events = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: ")]
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    return [delta["content"] for delta in deltas if delta.get("content")], events[-1]["error"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("model_timeout", 504),
        ("model_overloaded", 503),
        ("model_quota", 503),
        ("model_unavailable", 502),
        ("model_disconnected", 502),
        ("model_refused_key", 502),
        ("context_too_long", 400),
        ("content_filtered", 400),
    ],
)
@SHAPES
async def test_a_model_that_fails_at_once_is_an_answer_with_a_status(
    alice: httpx2.AsyncClient, app: FastAPI, code: str, status: int, streams: bool
) -> None:
    put(app, Failing(ModelFailure(code, "It failed.", 7.2)))
    answer = await complete(alice, stream=streams)
    assert (error_of(answer), answer.headers["retry-after"]) == ((status, code, None), "8")
    assert answer.json()["error"]["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert await count(app, Reservation.id) == 0


async def test_a_model_that_fails_later_ends_the_stream_with_an_error(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    put(app, Failing(ModelFailure("model_disconnected", "The connection was lost."), "so", " far"))
    texts, error = failed_stream(await complete(alice, stream=True))
    assert (texts, error["code"], error["type"]) == (["so", " far"], "model_disconnected", "server_error")
    assert error_of(await complete(alice)) == (502, "model_disconnected", None)


@SHAPES
async def test_an_error_of_this_service_quotes_nothing(
    alice: httpx2.AsyncClient, app: FastAPI, streams: bool, caplog: pytest.LogCaptureFixture
) -> None:
    put(app, Failing(RuntimeError("key-of-somebody")))
    answer = await complete(alice, stream=streams)
    assert error_of(answer) == (500, "internal", None)
    assert [record for record in caplog.records if "completion failed" in str(record.msg)]
    assert not any("key-of-somebody" in text for text in (answer.text, caplog.text))


async def test_an_answer_that_is_cut_short_says_so(alice: httpx2.AsyncClient) -> None:
    whole = (await answer_of(alice, max_completion_tokens=3))["choices"][0]
    *_, finish = chunks_of(await complete(alice, max_tokens=3, stream=True))
    assert (whole["finish_reason"], finish["choices"][0]["finish_reason"]) == ("length", "length")
    assert len(whole["message"]["content"].split()) == 3


async def test_reasoning_comes_apart_from_the_answer(alice: httpx2.AsyncClient) -> None:
    whole = (await answer_of(alice, reasoning_effort="low"))["choices"][0]["message"]
    deltas = [
        chunk["choices"][0]["delta"] for chunk in chunks_of(await complete(alice, reasoning_effort="low", stream=True))
    ]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == whole["reasoning_content"]
    assert "".join(delta.get("content", "") for delta in deltas) == whole["content"]
    assert all(value is not None for delta in deltas for value in delta.values())


async def test_a_slow_model_is_waited_for(
    alice: httpx2.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sends comments meanwhile, also before the first word."""
    monkeypatch.setattr(models_module, "KEEP_ALIVE_SECONDS", 0.02)
    model = put(app, Costly("so far", " and on"))
    async with (
        listening(app) as url,
        httpx2.AsyncClient(base_url=url, headers=alice.headers) as client,
        client.stream("POST", COMPLETIONS, json={**BODY, "stream": True}) as response,
    ):
        lines = response.aiter_lines()
        async for line in lines:
            if line == ": keep-alive":
                model.go_on.set()
                break
        rest = [line async for line in lines]
    assert rest[-2] == "data: [DONE]"
    assert any(" and on" in line for line in rest)


@SHAPES
async def test_whoever_leaves_stops_the_model_and_pays_for_what_it_said(
    alice: httpx2.AsyncClient, app: FastAPI, streams: bool
) -> None:
    model = put(app, Costly())
    async with listening(app) as url, httpx2.AsyncClient(base_url=url, headers=alice.headers) as client:
        leaving = asyncio.create_task(client.post(COMPLETIONS, json={**BODY, "stream": streams}))
        await model.thinks.wait()
        assert await count(app, Reservation.id) == 1
        leaving.cancel()
        async with asyncio.timeout(10):
            await model.ended.wait()
            await settled(app)
    assert await spent(alice) == [("acme:one", 1, 30, 12)]
    assert await count(app, Reservation.id) == 0


@SHAPES
async def test_a_budget_is_kept(make_settings: MakeSettings, streams: bool) -> None:
    settings = make_settings(tokens_per_day=200, ai_max_output_tokens=100)
    async with running(settings) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        answers = await asyncio.gather(*(complete(client, stream=streams) for _ in range(4)))
        refused = [answer for answer in answers if answer.status_code != 200]
        for answer in refused:
            assert error_of(answer) == (402, "budget_exhausted", None)
            assert answer.json()["error"]["type"] == "insufficient_quota"
            assert int(answer.headers["retry-after"]) > 0
        assert refused
        [(_, requests, read, written)] = await spent(client)
        assert (requests, read + written <= 200) == (4 - len(refused), True)
        assert await count(app, Reservation.id) == 0


async def test_limits_of_chat_apply(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGES_PER_MINUTE", "3")
    monkeypatch.setenv("MAX_CONCURRENT_REPLIES", "1")
    async with running(make_settings(demo_model_delay=0.02)) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        answers = await asyncio.gather(*(complete(client) for _ in range(2)))
        [refused] = [answer for answer in answers if answer.status_code != 200]
        assert error_of(refused) == (429, "too_many_replies", None)
        assert (await complete(client)).status_code == 200
        limited = await complete(client)
        assert (error_of(limited)[0], limited.json()["error"]["type"]) == (429, "rate_limit_error")
        assert int(limited.headers["retry-after"]) > 0
        call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        ran = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "1", "content": "sunny"}]
        made_up = await complete(client, messages=[*HELLO, *ran])
        assert error_of(made_up)[0] == 429, "nobody knows whether a model has asked for it"


async def test_answers_at_once_are_limited_as_streams_are(make_settings: MakeSettings) -> None:
    async with running(make_settings(sockets_per_user=1)) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        model = put(app, Costly())
        first = asyncio.create_task(complete(client, stream=True))
        await model.thinks.wait()
        assert error_of(await complete(client, stream=True))[0] == 429
        model.go_on.set()
        assert (await first).status_code == 200


@SHAPES
async def test_an_account_that_is_deleted_meanwhile_gets_its_answer_and_leaves_nothing(
    alice: httpx2.AsyncClient, app: FastAPI, streams: bool
) -> None:
    model = put(app, Costly())
    asking = asyncio.create_task(complete(alice, stream=streams, headers=KEY))
    await model.thinks.wait()
    assert (await alice.delete(ME)).status_code == 204
    model.go_on.set()
    assert (await asking).status_code == 200
    assert await count(app, Reservation.id) == await count(app, IdempotencyKey.id) == 0


async def test_a_server_that_stops_lets_answers_end(start_server: StartServer) -> None:
    async with start_server(DEMO_MODEL_DELAY="0.02") as server:
        lines, status = await read_while_it_stops(server)
    assert (lines[-1], status) == ("data: [DONE]", 0)


async def test_an_answer_that_outlives_the_grace_ends_with_an_error(start_server: StartServer) -> None:
    async with start_server(DEMO_MODEL_DELAY="0.5", SHUTDOWN_GRACE_SECONDS="0.1") as server:
        lines, status = await read_while_it_stops(server)
    assert (json.loads(lines[-1][6:])["error"]["code"], status) == ("interrupted", 0)


async def read_while_it_stops(server: Server) -> tuple[list[str], int]:
    """Returns the lines of an answer, of which the first words came before the server was stopped; and its status."""
    async with httpx2.AsyncClient(base_url=server.url, timeout=30) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        stopping, lines = None, list[str]()
        async with client.stream("POST", COMPLETIONS, json={**BODY, "stream": True}) as response:
            async for line in response.aiter_lines():
                lines += [line] if line.startswith("data: ") else []
                if len(lines) == 2 and stopping is None:
                    stopping = asyncio.create_task(server.stop())
        assert stopping
        return lines, await stopping
