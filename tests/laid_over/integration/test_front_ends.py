"""Tests that Open WebUI and LibreChat can be used with an address and a key, over real HTTP.

The requests are those that both send, recorded from Open WebUI 0.12.4 and from the engine of LibreChat,
@librechat/agents 3.2.21. In Open WebUI they are made by backend/open_webui/routers/openai.py and tasks.py,
utils/headers.py and utils/middleware.py, which also read the answers; in LibreChat by
packages/api/src/endpoints/models.ts and openai/llm.ts, and by @langchain/openai.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.services.ai import ModelFailure, Piece, Prompt
from tests.chats import Scripted
from tests.conftest import MakeSettings, bearer, listening, running, sign_in

COMPLETIONS, MODELS, USAGE = "/v1/chat/completions", "/v1/models", "/api/v1/usage"
ORIGIN = "https://chat.example.com"
"""Names the page of a front end that asks from the browser: a direct connection of Open WebUI."""

PERSON = {"Auth-Type": "jwt", "User-Name": "Ada%20Lovelace", "User-Id": "88be487f", "User-Email": "ada@example.com"}
OPEN_WEBUI = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate, br",
    "User-Agent": "Python/3.11 aiohttp/3.14.5",
    **{f"X-OpenWebUI-{name}": value for name, value in PERSON.items()},
    "X-OpenWebUI-User-Role": "admin",
    "X-OpenWebUI-Chat-Id": "920440dc-9d9a-403e-ab35-ce2033b37cd1",
}
STAINLESS = {"retry-count": "0", "lang": "js", "package-version": "6.49.0", "os": "Linux", "runtime": "node"}
LIBRECHAT = {
    "Accept": "application/json",
    "Accept-Language": "*",
    "Sec-Fetch-Mode": "cors",
    "User-Agent": "langchainjs-openai/1.0.0 ((node/v24.21.0; linux; x64))",
    **{f"x-stainless-{name}": value for name, value in STAINLESS.items()},
}
TO_OPENROUTER = {"HTTP-Referer": "https://openwebui.com/", "X-Title": "Open WebUI"}
"""Holds headers that front ends send to some providers, and that proxies of a company add to all."""

PANEL: dict[str, Any] = {
    **{"temperature": 0.7, "top_p": 0.9, "frequency_penalty": 0, "presence_penalty": 0, "seed": 1},
    **{"stop": ["ZZZ"], "max_tokens": 500, "reasoning_effort": "low"},
}
"""Holds what a person can set in Open WebUI's panel, as far as OpenAI's API has it."""
WITH_USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
OF_OPEN_WEBUI: dict[str, Any] = {"model": "demo", "stream": True}
OF_LIBRECHAT: dict[str, Any] = {"model": "demo", "user": "6650f00d", **WITH_USAGE}
MEMORY = {"role": "system", "content": "<memory_context>\n[User Memory]\n- likes tea\n</memory_context>"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
PICTURE = {"url": f"data:image/png;base64,{PIXEL}"}

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: dict[str, Any] = {"name": "weather", "description": "Tells the weather.", "parameters": CITY}
DRAFT = {"$schema": "https://json-schema.org/draft/2020-12/schema", **CITY, "additionalProperties": False}
TITLE = {"type": "object", "properties": {"language": {"type": "string"}, "title": {"type": "string"}}}


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


@dataclass
class Heard:
    """Holds what a front end has read of a stream."""

    text: str = ""
    reasoning: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    usage: Mapping[str, int] | None = None
    reason: str | None = None
    error: Mapping[str, Any] | None = None
    is_done: bool = False

    def read(self, line: str) -> None:
        """Reads as Open WebUI does: each line that begins with `data:` is whole, and an error has no choices."""
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:"):
            assert not line or line.startswith(":"), line
        elif data == "[DONE]":
            self.is_done = True
        else:
            self._read(json.loads(data))

    def _read(self, chunk: Mapping[str, Any]) -> None:
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices", ()):
            delta = choice["delta"]
            assert None not in delta.values()
            self.text += delta.get("content", "")
            self.reasoning += delta.get("reasoning_content", "")
            self.calls += delta.get("tool_calls", ())
            self.reason = choice["finish_reason"] or self.reason
        if not chunk.get("choices"):
            self.error = chunk.get("error")


async def hear(client: httpx2.AsyncClient, body: Mapping[str, Any], headers: Mapping[str, str] = OPEN_WEBUI) -> Heard:
    heard = Heard()
    async with client.stream("POST", COMPLETIONS, json=body, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            heard.read(line)
    return heard


async def read(client: httpx2.AsyncClient, body: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """Returns the text of an answer that is not streamed."""
    answer = await client.post(COMPLETIONS, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    [choice] = answer.json()["choices"]
    assert choice["finish_reason"] == "stop"
    return choice["message"]["content"]


async def error_of(answer: httpx2.Response) -> tuple[int, str]:
    """Returns the status and the code of an error whose sentence both front ends show to the person."""
    assert answer.headers["Content-Type"] == "application/json"
    error = answer.json()["error"]
    assert error["message"].endswith(".")
    return answer.status_code, error["code"]


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """Yields a client with the key that a person gives to a front end, and that may do nothing but chat."""
    async with listening(app) as url, httpx2.AsyncClient(base_url=url) as client:
        signed_in = await sign_in(client, "ada@example.com")
        key = {"name": "front end", "scopes": ["chat"]}
        made = await client.post("/api/v1/auth/api-keys", json=key, headers=signed_in)
        client.headers.update(bearer(made.json()["key"]))
        yield client


@pytest.fixture
async def app(make_settings: MakeSettings) -> AsyncGenerator[FastAPI]:
    settings = make_settings(allowed_origins=[ORIGIN])
    async with running(settings, is_server=True) as app:
        yield app


@pytest.fixture
async def ada(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    async with opened(app) as client:
        yield client


@pytest.mark.parametrize("headers", [OPEN_WEBUI, LIBRECHAT, {**OPEN_WEBUI, **TO_OPENROUTER}])
async def test_a_connection_is_verified_by_the_list_of_models(
    ada: httpx2.AsyncClient, headers: Mapping[str, str]
) -> None:
    answer = await ada.get(MODELS, headers={"Content-Type": "application/json", **headers})
    assert answer.headers["Content-Type"] == "application/json"
    [model] = answer.json()["data"]
    assert (model["id"], model["name"], model["owned_by"]) == ("demo", "demo", "demo")
    assert isinstance(model["created"], int)
    assert (await ada.head(MODELS)).status_code == 200
    wrong = await ada.get(MODELS, headers={**headers, **bearer("sk-wrong")})
    assert await error_of(wrong) == (401, "unauthenticated")


async def test_other_addresses_answer_with_an_error_that_is_shown(ada: httpx2.AsyncClient) -> None:
    """Sends what Open WebUI makes of an address with a slash at its end, and asks for vectors as it does if told to."""
    for path in ("/v1//models", "/v1/embeddings", "/v1/responses", "/v1/audio/speech"):
        answer = await ada.get(path) if path.endswith("models") else await ada.post(path, json={"input": ["a"]})
        assert await error_of(answer) == (404, "not_found"), path
    asked = await ada.post(COMPLETIONS, json={**OF_LIBRECHAT, "model": "gpt-3.5-turbo", "messages": [says("hi")]})
    assert await error_of(asked) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (OPEN_WEBUI, {**OF_OPEN_WEBUI, "messages": [says("tea?")]}),
        (OPEN_WEBUI, {**OF_OPEN_WEBUI, **WITH_USAGE, **PANEL, "messages": [MEMORY, says("tea?")]}),
        (OPEN_WEBUI, {**OF_OPEN_WEBUI, "logit_bias": None, "top_k": None, "messages": [says("tea?")]}),
        (LIBRECHAT, {**OF_LIBRECHAT, "messages": [{"role": "system", "content": "Be kind."}, says("tea?")]}),
        (LIBRECHAT, {**OF_LIBRECHAT, **PANEL, "verbosity": "low", "messages": [says("tea?")]}),
        (LIBRECHAT, {**OF_LIBRECHAT, "max_completion_tokens": 100, "messages": [says("tea?", name="Ada")]}),
        (
            LIBRECHAT,
            {**OF_LIBRECHAT, "messages": [says("hi"), {"role": "assistant", "content": "hello"}, says("tea?")]},
        ),
    ],
)
async def test_a_chat_is_streamed(ada: httpx2.AsyncClient, headers: Mapping[str, str], body: Mapping[str, Any]) -> None:
    heard = await hear(ada, body, headers)
    assert heard.text.startswith("You said: “tea?”.")
    assert (heard.is_done, heard.reason, heard.error) == (True, "stop", None)
    assert bool(heard.reasoning) == ("reasoning_effort" in body)
    assert (heard.usage is not None) == ("stream_options" in body)
    if heard.usage:
        assert heard.usage["total_tokens"] == heard.usage["prompt_tokens"] + heard.usage["completion_tokens"]


@pytest.mark.parametrize(
    ("parameter", "value"), [("top_k", 40), ("min_p", 0.1), ("repeat_penalty", 1.1), ("logit_bias", {"5": -100})]
)
async def test_what_a_panel_offers_beyond_that_is_refused_by_name(
    ada: httpx2.AsyncClient, parameter: str, value: Any
) -> None:
    answer = await ada.post(COMPLETIONS, json={**OF_OPEN_WEBUI, parameter: value, "messages": [says("tea?")]})
    assert await error_of(answer) == (400, "unsupported_parameter")
    assert parameter in answer.json()["error"]["message"]


async def test_a_message_after_one_without_an_answer(ada: httpx2.AsyncClient) -> None:
    """Leaves an answer out that failed, as Open WebUI does, so that two messages of the person follow each other."""
    heard = await hear(ada, {**OF_OPEN_WEBUI, "messages": [says("tea?"), says("or coffee?")]})
    assert heard.text.startswith("You said: “tea? or coffee?”.")


@pytest.mark.parametrize("picture", [PICTURE, {**PICTURE, "detail": "auto"}])
async def test_a_picture(ada: httpx2.AsyncClient, picture: Mapping[str, str]) -> None:
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": picture}]
    first = says("", content=content)
    assert "I got a picture (image/png)" in (await hear(ada, {**OF_OPEN_WEBUI, "messages": [first]})).text
    again = [first, {"role": "assistant", "content": "A pixel."}, says("Which colour?")]
    assert (await hear(ada, {**OF_OPEN_WEBUI, "messages": again})).text.startswith("You said: “Which colour?”.")


@pytest.mark.parametrize(
    ("headers", "body", "function", "named"),
    [
        (OPEN_WEBUI, OF_OPEN_WEBUI, WEATHER, {}),
        (LIBRECHAT, OF_LIBRECHAT, {**WEATHER, "parameters": DRAFT}, {"name": "weather"}),
    ],
)
async def test_tools_of_a_front_end(
    ada: httpx2.AsyncClient,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    function: Mapping[str, Any],
    named: Mapping[str, str],
) -> None:
    tools = [{"type": "function", "function": function}]
    first = await hear(ada, {**body, "messages": [says("Rome")], "tools": tools}, headers)
    assert (first.reason, first.text) == ("tool_calls", "")
    [call] = first.calls
    assert (call.pop("index"), call["type"]) == (0, "function")
    assert json.loads(call["function"]["arguments"]) == {"city": "Rome"}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "content": "sunny", **named, "tool_call_id": call["id"]}
    heard = await hear(ada, {**body, "messages": [says("Rome"), called, result], "tools": tools}, headers)
    assert heard.text.startswith("You asked: “Rome”. weather returned: “sunny”.")
    history = [says("Rome"), called, result, {"role": "assistant", "content": "Sunny."}, says("Thank you")]
    assert "“Thank you”" in (await hear(ada, {**body, "messages": history}, headers)).text


async def test_titles_tags_and_follow_ups(ada: httpx2.AsyncClient) -> None:
    task = says("### Task:\nGenerate a concise title.\n### Chat History:\n<chat_history>\nUSER: tea?\n</chat_history>")
    asked = {"model": "demo", "messages": [task], "stream": False}
    for more in ({"max_tokens": 1000}, {}):
        assert "Generate a concise title" in await read(ada, {**asked, **more}, OPEN_WEBUI)
    schema = {"type": "json_schema", "json_schema": {"name": "extract", "schema": TITLE}}
    body = {"model": "demo", "user": "6650f00d", "stream": False, "messages": [task]}
    assert "Generate a concise title" in await read(ada, body, LIBRECHAT)
    title = json.loads(await read(ada, {**body, "response_format": schema}, LIBRECHAT))
    assert title.keys() <= {"language", "title"}


async def test_leaving_stops_the_answer(make_settings: MakeSettings) -> None:
    """Closes the connection, as Open WebUI and LibreChat do when a person stops an answer."""
    async with running(make_settings(demo_model_delay=0.5), is_server=True) as app, opened(app) as ada:
        body = {**OF_OPEN_WEBUI, "messages": [says("Count to a hundred.")]}
        async with ada.stream("POST", COMPLETIONS, json=body) as answer:
            async for line in answer.aiter_lines():
                if '"content":"You"' in line:
                    break
            [answering] = app.state.completions.running._tasks
        await asyncio.wait_for(answering, 5)
        [day] = (await ada.get(USAGE, headers=await sign_in(ada, "ada@example.com"))).json()["days"]
        assert day["output_tokens"] < 5


class Breaking(Scripted):
    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        async for piece in super().stream(prompt):
            yield piece
        raise ModelFailure("model_overloaded", "The model is overloaded; try again later.")


@pytest.mark.parametrize("pieces", [(), ("Half",)])
async def test_a_failure_of_the_model_is_shown(app: FastAPI, ada: httpx2.AsyncClient, pieces: Sequence[str]) -> None:
    """Reaches the person as an error before the first word, and as a chunk without choices after it."""
    app.state.completions = replace(app.state.completions, ai=Breaking(*pieces))
    body = {**OF_OPEN_WEBUI, "messages": [says("tea?")]}
    if not pieces:
        assert await error_of(await ada.post(COMPLETIONS, json=body)) == (503, "model_overloaded")
        return
    heard = await hear(ada, body)
    assert (heard.text, heard.is_done, heard.reason) == ("Half", False, None)
    assert heard.error
    assert heard.error["message"] == "The model is overloaded; try again later."


async def test_a_browser_may_ask_if_its_page_is_allowed(ada: httpx2.AsyncClient) -> None:
    wants = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    asked = await ada.options(COMPLETIONS, headers={"Origin": ORIGIN, **wants})
    assert (asked.status_code, asked.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    assert asked.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    own = {"Origin": ORIGIN, "Accept": "application/json"}
    body = {**OF_OPEN_WEBUI, "messages": [says("tea?")]}
    answers = [
        await ada.get(MODELS, headers=own),
        await ada.post(COMPLETIONS, json=body, headers=own),
        await ada.get(MODELS, headers={**own, **bearer("sk-wrong")}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 401]
    assert {answer.headers["Access-Control-Allow-Origin"] for answer in answers} == {ORIGIN}
    refused = await ada.options(COMPLETIONS, headers={"Origin": "https://elsewhere.example.com", **wants})
    assert refused.status_code == 400
    assert "Access-Control-Allow-Origin" not in refused.headers
