"""Tests agents as models of OpenAI's clients: their tools run here, and the client's functions where it runs."""

from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from app.services.ai import AssistantMessage, ToolCall, ToolResult, UserMessage
from tests.agents import EXECUTIONS, agent, asking, calls, play, returned
from tests.conftest import bearer, client_for, running
from tests.integration.test_chat_completions import HELLO, MODELS, WEATHER, answer_of, chunks_of, complete, error_of

ADD = ("calculate", {"expression": "2+3"})
ROME = ("weather", {"city": "Rome"})


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


async def model_of(client: httpx2.AsyncClient, *tools: str, **more: Any) -> str:
    return f"agent:{(await agent(client, *tools, **more))['id']}"


async def executions(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    return (await client.get(EXECUTIONS)).json()["items"]


def results(asked: dict[str, Any], *contents: str) -> list[dict[str, Any]]:
    """Returns the message that calls functions, and the results of them."""
    [choice] = asked["choices"]
    assert choice["finish_reason"] == "tool_calls", asked
    made = zip(choice["message"]["tool_calls"], contents, strict=True)
    told = [{"role": "tool", "tool_call_id": call["id"], "content": content} for call, content in made]
    return [choice["message"], *told]


async def test_an_agent_answers_without_what_its_own_tools_do(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD, text="Let me see."), lambda prompt: f"It is {returned(prompt)[-1]}.")
    model = await model_of(alice, "calculate")
    answer = await answer_of(alice, model=model)
    [choice] = answer["choices"]
    assert (answer["model"], choice["finish_reason"]) == (model, "stop")
    assert choice["message"]["content"] == "Let me see.\n\nIt is 5."
    assert answer["usage"] == {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    [execution] = await executions(alice)
    assert (execution["status"], execution["input"], execution["message_id"]) == ("completed", "hello", None)


async def test_a_stream_tells_each_word(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD, text="Let me see."), "It is 5.")
    model = await model_of(alice, "calculate")
    first, *words, finish = chunks_of(await complete(alice, model=model, stream=True))
    assert first["choices"][0]["delta"]["role"] == "assistant"
    said = [chunk["choices"][0]["delta"]["content"] for chunk in words]
    assert said == ["Let", " me", " see.", "\n\n", "It", " is", " 5."]
    assert finish["choices"][0]["finish_reason"] == "stop"


async def test_the_history_of_the_client_is_what_the_agent_knows(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    played = play(app, "Sunny.")
    call = {"id": "call_of_another", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    brief = {"role": "system", "content": "Be brief."}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    told = {"role": "tool", "tool_call_id": call["id"], "content": "It rains."}
    model = await model_of(alice, instructions="Be kind.")
    await answer_of(alice, model=model, messages=[brief, *HELLO, asked, told], temperature=0.5, max_tokens=9)
    [prompt] = played.prompts
    assert prompt.messages == (
        UserMessage("hello"),
        AssistantMessage("", [ToolCall("call_of_another", "weather", "{}")]),
        ToolResult("call_of_another", "weather", "It rains."),
    )
    assert prompt.instructions.endswith("Be kind.\n\nBe brief.")
    assert (prompt.temperature, prompt.max_output_tokens) == (0.5, 9)


async def test_the_client_runs_its_functions_amid_an_execution(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ROME, ADD, text="Let me look."), lambda prompt: ", ".join(returned(prompt)))
    ask: dict[str, Any] = {"model": await model_of(alice, "calculate"), "tools": [WEATHER]}
    asked = await answer_of(alice, **ask)
    told = results(asked, "It rains")
    assert [call["function"]["name"] for call in told[0]["tool_calls"]] == ["weather"]
    assert [execution["status"] for execution in await executions(alice)] == ["waiting"]
    answer = await answer_of(alice, **ask, messages=[*HELLO, *told])
    assert answer["choices"][0]["message"]["content"] == "It rains, 5"
    assert [execution["status"] for execution in await executions(alice)] == ["completed"]
    assert answer["id"] != asked["id"]


async def test_a_call_that_needs_approval_ends_the_answer_until_then(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    play(app, calls(ADD), lambda prompt: f"It is {returned(prompt)[-1]}.")
    model = f"agent:{(await asking(alice, 'calculate'))['id']}"
    refused = await complete(alice, model=model, headers={"Idempotency-Key": "one"})
    assert error_of(refused) == (400, "approval_required", None)
    [execution] = await executions(alice)
    path = f"{EXECUTIONS}/{execution['id']}"
    [approval] = (await alice.get(path)).json()["approvals"]
    message = refused.json()["error"]["message"]
    assert f"{path.removeprefix('/api/v1')}/approvals" in message
    body = {"tool_call_id": approval["tool_call_id"], "approved": True}
    assert body["tool_call_id"] in message
    assert (await alice.post(f"{path}/approvals", json=body)).status_code == 200
    answer = await answer_of(alice, model=model, headers={"Idempotency-Key": "one"})
    assert answer["choices"][0]["message"]["content"] == "It is 5."


async def test_agents_are_models_of_their_owner(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> None:
    model = await model_of(alice)
    assert model in [each["id"] for each in (await alice.get(MODELS)).json()["data"]]
    assert model not in [each["id"] for each in (await bob.get(MODELS)).json()["data"]]
    for foreign in (model, "agent:none"):
        assert error_of(await complete(bob, model=foreign)) == (404, "model_not_found", "model")


async def test_a_key_needs_the_scope_of_agents_as_well(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    model = await model_of(alice)
    for scopes, status in ((["chat"], 403), (["chat", "agents"], 200)):
        made = await alice.post("/api/v1/auth/api-keys", json={"name": "A script", "scopes": scopes})
        async with client_for(app, **bearer(made.json()["key"])) as client:
            assert (await complete(client, model=model)).status_code == status, scopes
