"""Tests what OpenAI's clients rely on: answers, chunks, functions, models, and errors in their form."""

import json
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from app.core.config import Settings
from app.services.ai import Prompt, UserMessage
from tests.chats import CONVERSATIONS, Scripted
from tests.conftest import bearer, client_for, running, sign_in

COMPLETIONS, MODELS, USAGE = "/v1/chat/completions", "/v1/models", "/api/v1/usage"
HELLO = [{"role": "user", "content": "hello"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": CITY}}


async def complete(client: httpx2.AsyncClient, **body: Any) -> httpx2.Response:
    headers = body.pop("headers", {})
    return await client.post(COMPLETIONS, json={"model": "demo", "messages": HELLO, **body}, headers=headers)


async def answer_of(client: httpx2.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await complete(client, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def chunks_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    """Returns the chunks of a stream that ended as it should."""
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    *chunks, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(chunk.removeprefix("data: ")) for chunk in chunks if not chunk.startswith(":")]


def error_of(answer: httpx2.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    assert answer.json().keys() == {"error"}
    assert error["message"].endswith(".")
    return answer.status_code, error["code"], error["param"]


class Heard(Scripted):
    """Keeps the instructions of the last prompt."""

    instructions = ""

    def hear(self, prompt: Prompt) -> None:
        super().hear(prompt)
        self.instructions = prompt.instructions


async def test_a_model_answers_and_only_its_usage_is_stored(alice: httpx2.AsyncClient) -> None:
    answer = await answer_of(alice, messages=[{"role": "user", "content": "What is up?"}])
    [choice] = answer["choices"]
    assert (answer["object"], answer["model"], choice["finish_reason"]) == ("chat.completion", "demo", "stop")
    assert "What is up?" in choice["message"]["content"]
    [day] = (await alice.get(USAGE)).json()["days"]
    used = ("chat", 1, answer["usage"]["completion_tokens"])
    assert (day["feature"], day["requests"], day["output_tokens"]) == used
    assert (await alice.get(CONVERSATIONS)).json()["items"] == []


async def test_a_streamed_answer_has_the_same_words(alice: httpx2.AsyncClient) -> None:
    whole = await answer_of(alice)
    first, *rest, finish, usage = chunks_of(await complete(alice, stream=True, stream_options={"include_usage": True}))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in rest)
    assert text == whole["choices"][0]["message"]["content"]
    assert (finish["choices"][0]["finish_reason"], usage["choices"]) == ("stop", [])
    assert usage["usage"] == whole["usage"]
    assert {(chunk["id"], chunk["object"]) for chunk in rest} == {(first["id"], "chat.completion.chunk")}


async def test_the_client_runs_its_functions(alice: httpx2.AsyncClient) -> None:
    [asked] = (await answer_of(alice, tools=[WEATHER]))["choices"]
    [call] = asked["message"]["tool_calls"]
    assert (asked["finish_reason"], asked["message"]["content"]) == ("tool_calls", None)
    assert (call["function"]["name"], json.loads(call["function"]["arguments"]).keys()) == ("weather", {"city"})
    *_, streamed, _finish = chunks_of(await complete(alice, tools=[WEATHER], stream=True))
    [delta] = streamed["choices"][0]["delta"]["tool_calls"]
    assert (delta["index"], delta["function"]) == (0, call["function"])
    result = {"role": "tool", "tool_call_id": call["id"], "content": "It rains."}
    [told] = (await answer_of(alice, tools=[WEATHER], messages=[*HELLO, asked["message"], result]))["choices"]
    assert "weather returned: “It rains.”" in told["message"]["content"]


async def test_instructions_of_the_service_come_before_those_of_the_client(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_SYSTEM_PROMPT", "Be kind.")
    be = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be exact."}]
    async with running(settings) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        app.state.completions = replace(app.state.completions, ai=(heard := Heard("Yes.")))
        await answer_of(client, messages=[be[0], *HELLO, be[1]])
    assert (heard.instructions, heard.heard) == ("Be kind.\n\nBe brief.\n\nBe exact.", [[UserMessage("hello")]])


async def test_the_models_are_those_that_may_be_asked(alice: httpx2.AsyncClient) -> None:
    listed = (await alice.get(MODELS)).json()
    [demo] = listed["data"]
    assert (listed["object"], demo["id"], demo["object"], demo["owned_by"]) == ("list", "demo", "model", "demo")
    assert (await alice.get(f"{MODELS}/demo")).json() == demo
    assert error_of(await alice.get(f"{MODELS}/other")) == (404, "model_not_found", "model")


async def test_a_key_needs_the_scope_of_chat(alice: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    for scope, status in (("chat", 200), ("read", 403)):
        made = await alice.post("/api/v1/auth/api-keys", json={"name": "A script", "scopes": [scope]})
        client.headers.update(bearer(made.json()["key"]))
        assert (await complete(client)).status_code == status, scope
    client.headers.clear()
    assert error_of(await complete(client)) == (401, "unauthenticated", None)


async def test_what_is_not_supported_is_said_and_not_ignored(alice: httpx2.AsyncClient) -> None:
    assert error_of(await complete(alice, n=2)) == (400, "unsupported_parameter", "n")
    assert error_of(await complete(alice, temperatur=1)) == (400, "unsupported_parameter", "temperatur")
    assert error_of(await complete(alice, temperature=9)) == (400, "validation_error", "temperature")
    assert error_of(await complete(alice, model="other")) == (404, "model_not_found", "model")
    assert error_of(await alice.get("/v1/nothing")) == (404, "not_found", None)


async def test_a_request_with_a_key_is_answered_once(alice: httpx2.AsyncClient) -> None:
    first, again = [await answer_of(alice, headers={"Idempotency-Key": "one"}) for _ in range(2)]
    assert first == again
    [day] = (await alice.get(USAGE)).json()["days"]
    assert day["requests"] == 1
