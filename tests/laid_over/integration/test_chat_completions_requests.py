"""Tests how requests of OpenAI's clients are read: what is honoured, ignored and refused, and in which form."""

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.core.sampling import Sampling
from app.services.ai import AssistantMessage, Image, Prompt, ToolCall, ToolResult, ToolSpec, UserMessage
from tests.chats import Scripted
from tests.conftest import MakeSettings, bearer, client_for, running, sign_in
from tests.integration.test_chat_completions import CITY, COMPLETIONS, HELLO, WEATHER, answer_of, complete, error_of
from tests.integration.test_errors import assert_problem

PNG = b"\x89PNG\r\n\x1a\n and more"
UNSUPPORTED: list[dict[str, Any]] = [
    {"n": 2},
    {"logprobs": True},
    {"top_logprobs": 3},
    {"audio": {"voice": "alloy", "format": "mp3"}},
    {"modalities": ["text", "audio"]},
    {"web_search_options": {}},
    {"prediction": {"type": "content", "content": "x"}},
    {"functions": [{"name": "look"}]},
    {"function_call": "auto"},
    {"logit_bias": {"50256": -100}},
    {"anything_else": 1},
]
IGNORED = {
    **{"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "safety_identifier": "s"},
    **{"prompt_cache_key": "k", "prompt_cache_retention": "24h", "verbosity": "low", "parallel_tool_calls": False},
    **{"n": 1, "logprobs": False, "top_logprobs": 0, "modalities": ["text"], "logit_bias": {}, "functions": []},
    **{"stream_options": None, "audio": None, "anything_else": None, "temperature": None, "tools": None},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "It rains."}


class Heard(Scripted):
    """Keeps the last prompt."""

    prompt: Prompt

    def hear(self, prompt: Prompt) -> None:
        self.prompt = prompt


@pytest.fixture
def heard(app: FastAPI) -> Heard:
    app.state.completions = replace(app.state.completions, ai=(model := Heard("Yes.")))
    return model


def picture(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def of_user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize("parameter", UNSUPPORTED, ids=lambda parameter: next(iter(parameter)))
async def test_what_is_not_supported_is_refused(alice: httpx2.AsyncClient, parameter: dict[str, Any]) -> None:
    [name] = parameter
    assert error_of(await complete(alice, **parameter)) == (400, "unsupported_parameter", name)


async def test_parts_and_tools_that_are_not_supported_are_refused(alice: httpx2.AsyncClient) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    for part in (sound, {"type": "file", "file": {"file_id": "f"}}, {"type": "refusal", "refusal": "No."}):
        assert error_of(await complete(alice, messages=of_user([part]))) == (400, "unsupported_parameter", "messages")
    in_result = [*HELLO, CALLED, {**RESULT, "content": [picture(data_url(PNG))]}]
    assert error_of(await complete(alice, messages=in_result)) == (400, "unsupported_parameter", "messages")
    custom = {"type": "custom", "custom": {"name": "free"}}
    assert error_of(await complete(alice, tools=[custom])) == (400, "unsupported_parameter", "tools")
    there = of_user([picture("https://example.com/a.png")])
    assert error_of(await complete(alice, messages=there)) == (400, "unsupported_parameter", "image_url")


async def test_what_does_no_harm_is_ignored(alice: httpx2.AsyncClient) -> None:
    plain = await answer_of(alice)
    assert (await answer_of(alice, **IGNORED))["choices"] == plain["choices"]


async def test_what_is_asked_for_reaches_the_model(alice: httpx2.AsyncClient, heard: Heard) -> None:
    await answer_of(
        alice,
        **{"temperature": 0.5, "top_p": 0.9, "presence_penalty": 1, "frequency_penalty": -1, "seed": 7, "stop": "END"},
        **{"max_tokens": 50, "reasoning_effort": "low", "tools": [WEATHER], "tool_choice": "required"},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": CITY, "strict": True}},
    )
    asked = heard.prompt
    assert asked.sampling == Sampling(0.9, 1, -1, 7, ("END",))
    assert (asked.temperature, asked.max_output_tokens, asked.reasoning_effort) == (0.5, 50, "low")
    assert (asked.tools, asked.tool_choice) == ([ToolSpec("weather", "Tells it.", CITY)], "required")
    assert (asked.model, asked.output_schema) == ("demo", CITY)
    one = {"type": "function", "function": {"name": "weather"}}
    await answer_of(alice, tools=[WEATHER], tool_choice=one, max_tokens=50, max_completion_tokens=9)
    assert (heard.prompt.tool_choice, heard.prompt.max_output_tokens) == ("weather", 9)
    await answer_of(alice, tools=[WEATHER], tool_choice="none", response_format={"type": "json_object"})
    assert (heard.prompt.tools, heard.prompt.output_schema) == ([], {"type": "object"})
    await answer_of(alice, response_format={"type": "text"})
    assert heard.prompt.output_schema is None


async def test_messages_reach_the_model_in_the_order_of_turns(alice: httpx2.AsyncClient, heard: Heard) -> None:
    parts = [{"type": "text", "text": "See"}, picture(data_url(PNG)), {"type": "text", "text": "this."}]
    said = [
        {"role": "assistant", "content": "Hello! How can I help?"},
        *of_user(parts),
        {"role": "assistant", "content": "", "refusal": None, "annotations": [], "audio": None, "function_call": None},
        *of_user("Well?"),
        {**CALLED, "content": [{"type": "text", "text": "Let me look."}], "reasoning_content": "Hm."},
        {**RESULT, "content": [{"type": "text", "text": "It rains."}]},
    ]
    await answer_of(alice, messages=said)
    assert heard.prompt.messages == [
        UserMessage("See\nthis.\n\nWell?", (Image("image/png", PNG),)),
        AssistantMessage("Let me look.", [ToolCall("call_1", "weather", '{"city": "Rome"}')]),
        ToolResult("call_1", "weather", "It rains."),
    ]


async def test_ids_of_calls_may_come_again_in_another_turn(alice: httpx2.AsyncClient, heard: Heard) -> None:
    other = {**CALLED, "tool_calls": [{**CALL, "function": {"name": "look", "arguments": ""}}]}
    await answer_of(alice, messages=[*HELLO, CALLED, RESULT, *of_user("And?"), other, RESULT])
    results = [message for message in heard.prompt.messages if isinstance(message, ToolResult)]
    assert [result.name for result in results] == ["weather", "look"]
    assert heard.prompt.messages[-2] == AssistantMessage("", [ToolCall("call_1", "look", "{}")])


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "system", "content": "Be kind."}],
        [*HELLO, {"role": "assistant", "content": "Hi."}],
        [*HELLO, CALLED],
        [*HELLO, CALLED, *HELLO],
        [*HELLO, CALLED, *HELLO, RESULT],
        [*HELLO, RESULT],
        [*HELLO, CALLED, RESULT, RESULT],
        [*HELLO, {**CALLED, "tool_calls": [CALL, {**CALL, "id": "call_2"}]}, RESULT],
        [*HELLO, CALLED, {**RESULT, "tool_call_id": "call_2"}],
        [*HELLO, {"role": "critic", "content": "No."}],
        of_user(" "),
        of_user([]),
        of_user("x" * 40_000),
        of_user([{"type": "image_url"}]),
        of_user([picture("data:image/png;base64,?")]),
        of_user([picture("data:image/png;base64,é")]),
        of_user([picture(data_url(b"no picture"))]),
        of_user([picture(data_url(PNG))] * 51),
        of_user("\0"),
        of_user("\ud800"),
    ],
    ids=range(21),
)
async def test_messages_that_no_model_can_answer_are_refused(
    alice: httpx2.AsyncClient, messages: list[dict[str, Any]]
) -> None:
    answer = await alice.post(
        COMPLETIONS,
        content=json.dumps({"model": "demo", "messages": messages}),
        headers={"Content-Type": "application/json"},
    )
    status, code, _ = error_of(answer)
    assert (status, code) in {(400, "invalid"), (400, "validation_error")}, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("data", [b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\x01\n\x02\x03WEBPVP8 ", PNG])
async def test_a_picture_is_what_it_begins_with(alice: httpx2.AsyncClient, heard: Heard, data: bytes) -> None:
    await answer_of(alice, messages=of_user([picture(data_url(data, "image/png"))]))
    [image] = heard.prompt.pictures
    assert (image.data, image.media_type == "image/png") == (data, data == PNG)


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [WEATHER, WEATHER]},
        {"tools": [{"type": "function"}]},
        {"tools": [{"type": "function", "function": {"name": "no spaces"}}]},
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}]},
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"$ref": "https://a.example"}}}]},
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"description": "x" * 40_000}}}]},
        {"tools": [{"type": "function", "function": {"name": f"f{number}"}} for number in range(129)]},
        {"tool_choice": "required"},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string"}}}},
        {"response_format": {"type": "xml"}},
        {"temperature": 3},
        {"temperature": "warm"},
        {"max_tokens": 0},
        {"seed": 2**64},
        {"stop": ["a"] * 5},
        {"stop": ""},
        {"reasoning_effort": "endless"},
        {"stream": "perhaps"},
        {"headers": {"Idempotency-Key": "x" * 201}},
    ],
    ids=range(20),
)
async def test_values_that_nothing_takes_are_refused(alice: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    answer = await complete(alice, **body)
    status, code, param = error_of(answer)
    assert (status, code) in {(400, "invalid"), (400, "validation_error")}, answer.text
    name = next(iter(body))
    assert code == "invalid" or (param or "").startswith("header" if name == "headers" else name), param


async def test_a_field_that_is_refused_is_named_as_the_client_wrote_it(alice: httpx2.AsyncClient) -> None:
    for body, field in (
        ({"messages": [*HELLO, {**CALLED, "tool_calls": [{**CALL, "id": ""}]}]}, "messages.1.tool_calls.0.id"),
        ({"messages": of_user([{"type": "text", "text": 1}])}, "messages.0.content"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"stop": [1]}, "stop"),
    ):
        assert error_of(await complete(alice, **body)) == (400, "validation_error", field)


async def test_numbers_that_json_does_not_have_are_refused(alice: httpx2.AsyncClient) -> None:
    for number in ("NaN", "Infinity", "1e999"):
        text = json.dumps({"model": "demo", "messages": HELLO})[:-1] + f', "temperature": {number}}}'
        answer = await alice.post(COMPLETIONS, content=text, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "temperature"), answer.text


async def test_every_error_has_the_form_of_openai(alice: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    for method, path, status, code in (
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/chat", 404, "not_found"),
        ("POST", "/v1/responses", 404, "not_found"),
        ("GET", COMPLETIONS, 405, "method_not_allowed"),
        ("DELETE", "/v1/models/demo", 405, "method_not_allowed"),
        ("GET", "/v1/models/agent:nobody", 404, "model_not_found"),
        ("GET", "/v1/models/a/b", 404, "model_not_found"),
        ("GET", "/v1/models?limit=1", 400, "validation_error"),
        ("GET", "/v1/models/", 400, "validation_error"),
    ):
        answer = await alice.request(method, path)
        assert error_of(answer)[:2] == (status, code), (path, answer.text)
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert ("there are /v1/models and /v1/chat/completions" in answer.text) is (code == "not_found"), path
    for token in ({}, bearer("nonsense")):
        answer = await client.post(COMPLETIONS, json={}, headers=token)
        assert (error_of(answer), answer.json()["error"]["type"]) == (
            (401, "unauthenticated", None),
            "authentication_error",
        )
        assert answer.headers["www-authenticate"] == "Bearer"
    json_type = {"Content-Type": "application/json"}
    for content, status in ((b"{", 400), (b"[]", 400), (b"\0", 400), (b"[" + b"1," * 9000, 400), (b" " * 2**21, 413)):
        answer = await alice.post(COMPLETIONS, content=content, headers=json_type)
        assert error_of(answer)[0] == status, answer.text
    assert error_of(await alice.post(COMPLETIONS, content=b"hello"))[0] == 400
    made = await alice.post("/api/v1/auth/api-keys", json={"name": "A script", "scopes": ["read"]})
    refused = await client.post(COMPLETIONS, json={}, headers=bearer(made.json()["key"]))
    assert (error_of(refused)[:2], refused.json()["error"]["type"]) == ((403, "missing_scope"), "permission_error")


async def test_an_api_below_the_same_prefix_keeps_its_problem_documents(make_settings: MakeSettings) -> None:
    async with running(make_settings(api_v1_prefix="/v1")) as app, client_for(app) as client:
        assert_problem(await client.get("/v1/chat/conversations"), 401, "unauthenticated")
        assert_problem(await client.get("/v1/nothing"), 404, "not_found")
        assert error_of(await client.get("/v1/models"))[0] == 401
        assert error_of(await client.post(COMPLETIONS, json={}))[0] == 401


async def test_a_long_history_is_cut_to_whole_turns(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTORY_MAX_TOKENS", "1000")
    old = [*of_user("old " * 600), CALLED, RESULT, {"role": "assistant", "content": "old"}]
    middle = [*of_user("middle " * 400), {"role": "assistant", "content": "middle"}]
    newest = [*of_user("new"), CALLED, {**RESULT, "content": "new " * 3000}]
    async with running(make_settings()) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        app.state.completions = replace(app.state.completions, ai=(heard := Heard("Yes.")))
        await answer_of(client, messages=[*old, *middle, *newest])
    texts = [message.text.split()[0] for message in heard.prompt.messages if isinstance(message, UserMessage)]
    assert (texts, len(heard.prompt.messages)) == (["middle", "new"], 5)
