"""Tests chat completions with OpenAI's own library for Python, as it comes."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from app.models.usage import Reservation
from app.services.ai import ModelFailure
from tests.conftest import listening
from tests.integration.test_chat_completions import USAGE, WEATHER
from tests.integration.test_chat_completions_faults import Costly, Failing, count, put, settled, spent

ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


class Place(BaseModel):
    city: str


@pytest.fixture
async def sdk(app: FastAPI, alice: httpx2.AsyncClient) -> AsyncGenerator[openai.AsyncOpenAI]:
    """Yields a client of an application that is served on a port, with a key that may chat."""
    made = await alice.post("/api/v1/auth/api-keys", json={"name": "A client", "scopes": ["chat"]})
    async with (
        listening(app) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=made.json()["key"], max_retries=0) as client,
    ):
        yield client


async def test_it_lists_models_and_gets_answers(sdk: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == [(await sdk.models.retrieve("demo")).id] == ["demo"]
    whole = await sdk.chat.completions.create(model="demo", messages=ASKED, reasoning_effort="low")
    chunks = [
        chunk
        async for chunk in await sdk.chat.completions.create(
            model="demo",
            messages=ASKED,
            reasoning_effort="low",
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert (chunks[-1].usage, chunks[-2].choices[0].finish_reason) == (whole.usage, "stop")


async def test_its_stream_helper_puts_calls_together(sdk: openai.AsyncOpenAI) -> None:
    tools: Any = [WEATHER]
    async with sdk.chat.completions.stream(model="demo", messages=ASKED, tools=tools) as stream:
        asked = (await stream.get_final_completion()).choices[0]
    assert asked.finish_reason == "tool_calls"
    assert asked.message.tool_calls
    [call] = asked.message.tool_calls
    result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": call.id, "content": "It rains."}
    back: Any = asked.message  # as the library's guide does
    told = await sdk.chat.completions.create(model="demo", messages=[*ASKED, back, result], tools=tools)
    assert "weather returned: “It rains.”" in str(told.choices[0].message.content)


async def test_it_parses_structured_answers(sdk: openai.AsyncOpenAI) -> None:
    parsed = await sdk.chat.completions.parse(model="demo", messages=ASKED, response_format=Place)
    assert isinstance(parsed.choices[0].message.parsed, Place)


async def test_it_raises_the_error_of_each_status(sdk: openai.AsyncOpenAI, app: FastAPI) -> None:
    create = sdk.chat.completions.create
    with pytest.raises(openai.BadRequestError, match="parameter n is not supported") as refused:
        await create(model="demo", messages=ASKED, n=2)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "n")
    with pytest.raises(openai.NotFoundError, match="other does not exist"):
        await create(model="other", messages=ASKED)
    with pytest.raises(openai.BadRequestError):
        await create(model="demo", messages=[])
    with pytest.raises(openai.NotFoundError):
        await sdk.embeddings.create(model="demo", input="hello")
    with pytest.raises(openai.AuthenticationError):
        await sdk.with_options(api_key="nonsense").models.list()
    put(app, Failing(ModelFailure("model_unavailable", "The model is away.")))
    with pytest.raises(openai.InternalServerError, match="The model is away"):
        await create(model="demo", messages=ASKED, stream=True)
    put(app, Failing(ModelFailure("model_disconnected", "The connection was lost."), "so far"))
    with pytest.raises(openai.APIError, match="The connection was lost") as cut:
        [chunk async for chunk in await create(model="demo", messages=ASKED, stream=True)]
    assert cut.value.code == "model_disconnected"


async def test_a_stream_that_is_closed_stops_the_model(
    sdk: openai.AsyncOpenAI, app: FastAPI, alice: httpx2.AsyncClient
) -> None:
    model = put(app, Costly())
    stream = await sdk.chat.completions.create(model="demo", messages=ASKED, stream=True)
    async with stream:
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    async with asyncio.timeout(10):
        await model.ended.wait()
        await settled(app)
    assert (await spent(alice), await count(app, Reservation.id)) == ([("acme:one", 1, 30, 12)], 0)


async def test_it_waits_for_an_answer_that_is_under_way(
    sdk: openai.AsyncOpenAI, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sends the same twice at once: the library obeys Retry-After of the 409, and then gets the answer of the first."""
    waited = asyncio.Event()

    async def sleep(_self: Any, **_: Any) -> None:
        waited.set()
        model.go_on.set()
        await first

    monkeypatch.setattr(openai.AsyncOpenAI, "_sleep_for_retry", sleep)
    model = put(app, Costly("so far", " and on"))
    create, key = sdk.with_options(max_retries=1).chat.completions.create, {"Idempotency-Key": "one"}
    first = asyncio.create_task(create(model="demo", messages=ASKED, extra_headers=key))
    await model.thinks.wait()
    second = await create(model="demo", messages=ASKED, extra_headers=key)
    assert waited.is_set()
    assert ((await first).id, len(model.heard)) == (second.id, 1)


async def test_a_conversation_of_many_turns(sdk: openai.AsyncOpenAI, alice: httpx2.AsyncClient) -> None:
    said: list[ChatCompletionMessageParam] = [{"role": "system", "content": "Be brief."}]
    for turn in range(5):
        said.append({"role": "user", "content": f"turn {turn}"})
        answer = (await sdk.chat.completions.create(model="demo", messages=said)).choices[0].message
        assert f"turn {turn}" in str(answer.content)
        back: Any = answer
        said.append(back)
    assert (await alice.get(USAGE)).json()["days"][0]["requests"] == 5
