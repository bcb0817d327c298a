"""Tests how each provider's models are asked to pick words, to call tools and to look at pictures, through its SDK."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.core.sampling import Sampling, ToolChoice
from app.services.ai import AssistantMessage, ChatMessage, Image, ToolCall, UserMessage
from tests.integration.test_reasoning import contains, dialect_of, history_of, of_installed
from tests.protocols.gateway import gateway
from tests.protocols.rounds import ASKED, TOOLS, ask, history

SAMPLING = Sampling(top_p=0.5, presence_penalty=0.4, frequency_penalty=0.3, seed=7, stop=("END",))
CHAT = {"top_p": 0.5, "presence_penalty": 0.4, "frequency_penalty": 0.3, "seed": 7, "stop": ["END"]}
PICTURE = Image("image/png", b"\x89PNG\r\n\x1a\n and more")
BASE64 = "iVBORw0KGgogYW5kIG1vcmU="

SAMPLED: Sequence[tuple[str, Mapping[str, Any]]] = [
    ("anthropic:claude-haiku-4-5", {"top_p": ..., "temperature": 1.0, "stop_sequences": ["END"], "max_tokens": 50}),
    ("anthropic:claude-opus-4-7", {"top_p": ..., "temperature": ..., "stop_sequences": ["END"]}),
    (
        "bedrock:amazon.nova-pro-v1:0",
        {"inferenceConfig": {"topP": 0.5, "stopSequences": ["END"], "maxTokens": 50, "temperature": 1.0}},
    ),
    (
        "google:gemini-2.5-flash",
        {
            "generationConfig": {
                "topP": 0.5,
                "seed": 7,
                "stopSequences": ["END"],
                "maxOutputTokens": 50,
                "presencePenalty": ...,
                "frequencyPenalty": ...,
            }
        },
    ),
    ("groq:llama-test", {**CHAT}),
    ("mistral:mistral-test", {"top_p": 0.5, "random_seed": 7, "stop": ["END"], "max_tokens": 50}),
    ("ollama:llama-test", {**CHAT, "max_tokens": 50}),
    ("openai:gpt-5-mini", {"top_p": ..., "temperature": ..., "stop": ..., "max_output_tokens": 50}),
    ("openai:gpt-4o", {"top_p": 0.5, "temperature": 2.0, "max_output_tokens": 50}),
    ("openai-chat:some-model", {**CHAT, "max_tokens": 50}),
    ("openai-chat:gpt-5-mini", {"top_p": ..., "stop": ..., "seed": 7, "max_completion_tokens": 50}),
    ("openrouter:anthropic/claude-sonnet-4.5", {"stop": ["END"], "temperature": 2.0, "top_p": ...}),
    ("bedrock:meta.llama3-1-70b-instruct-v1:0", {"inferenceConfig": {"topP": 0.5, "stopSequences": ...}}),
]
"""Lists models and what is sent for them, where an ellipsis stands for nothing."""

CALLED = AssistantMessage(tool_calls=[ToolCall("call_1", "weather", '{"city": "Rome"}')])
CHOICES: Sequence[tuple[str, ToolChoice, str | None, Any]] = [
    ("anthropic:claude-haiku-4-5", "required", None, {"tool_choice": {"type": "any"}}),
    ("anthropic:claude-haiku-4-5", "required", "high", {"tool_choice": {"type": "auto"}}),
    ("anthropic:claude-haiku-4-5", "weather", None, {"tool_choice": {"type": "tool", "name": "weather"}}),
    ("anthropic:claude-haiku-4-5", "none", None, {"tool_choice": {"type": "none"}, "tools": [{}, {}]}),
    ("anthropic:claude-opus-4-7", "required", "high", {"tool_choice": {"type": "any"}}),
    ("bedrock:amazon.nova-pro-v1:0", "required", None, {"toolConfig": {"toolChoice": {"any": {}}}}),
    ("bedrock:amazon.nova-pro-v1:0", "weather", None, {"toolConfig": {"toolChoice": {"tool": {"name": "weather"}}}}),
    ("bedrock:amazon.nova-pro-v1:0", "none", None, {"toolConfig": {"tools": [{}, {}], "toolChoice": ...}}),
    (
        "bedrock:anthropic.claude-sonnet-4-5-20250929-v1:0",
        "weather",
        "high",
        {"toolConfig": {"toolChoice": {"auto": {}}}},
    ),
    ("bedrock:meta.llama3-1-70b-instruct-v1:0", "required", None, {"toolConfig": {"toolChoice": ...}}),
    ("google:gemini-2.5-flash", "required", None, {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
    (
        "google:gemini-2.5-flash",
        "weather",
        "high",
        {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}}},
    ),
    ("google:gemini-2.5-flash", "none", None, {"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}}),
    ("groq:llama-test", "required", None, {"tool_choice": "required"}),
    ("groq:llama-test", "weather", None, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
    ("mistral:mistral-test", "required", None, {"tool_choice": "any"}),
    ("mistral:mistral-test", "none", None, {"tools": ...}),
    ("ollama:llama-test", "required", None, {"tool_choice": "required"}),
    ("openai:gpt-5-mini", "weather", "high", {"tool_choice": {"type": "function", "name": "weather"}}),
    ("openai:gpt-5-mini", "none", None, {"tool_choice": "none", "tools": [{}, {}]}),
    ("openai-chat:some-model", "required", None, {"tool_choice": "required"}),
    ("openai-chat:some-model", "weather", None, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
    ("openai-chat:some-model", "none", None, {"tool_choice": "none", "tools": [{}, {}]}),
    ("openrouter:anthropic/claude-sonnet-4.5", "required", None, {"tool_choice": "required"}),
    ("openrouter:anthropic/claude-sonnet-4.5", "required", "high", {"tool_choice": "auto"}),
]
"""Lists models, choices of a tool, efforts, and what is sent after a first call of a tool."""

PICTURES: Mapping[str, Mapping[str, Any]] = {
    "anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}},
    "bedrock": {"image": {"format": "png", "source": {"bytes": BASE64}}},
    "google": {"inlineData": {"mime_type": "image/png", "data": BASE64}},
    "mistral": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}},
    "openai": {"type": "input_image", "image_url": f"data:image/png;base64,{BASE64}"},
}
"""Holds the form of a picture of each provider; all others have that of OpenAI's chat completions."""
IMAGE_URL = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}}


async def sent(model: str, *messages: ChatMessage, **asked: Any) -> Mapping[str, Any]:
    """Returns what the provider's server gets; a warning is an error."""
    dialect = dialect_of(model)
    assert dialect
    async with gateway(dialect, model) as (ai, server):
        server.will(dialect.speak("Yes."))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (await ask(ai, *(messages or (ASKED,)), **asked)).text == "Yes."
    return server.requests[0].body


@pytest.mark.parametrize(("model", "fields"), of_installed(SAMPLED))
async def test_words_are_picked_as_the_prompt_says(model: str, fields: Mapping[str, Any]) -> None:
    body = await sent(model, sampling=SAMPLING, max_output_tokens=50)
    assert contains(body, fields), body


@pytest.mark.parametrize(("model", "choice", "effort", "fields"), of_installed(CHOICES))
async def test_a_tool_is_called_as_the_prompt_says(
    model: str, choice: ToolChoice, effort: str | None, fields: Any
) -> None:
    tools = [*TOOLS, replace(TOOLS[0], name="other")]
    body = await sent(model, *history(CALLED), tool_choice=choice, reasoning_effort=effort, tools=tools)
    assert contains(body, fields), body


@pytest.mark.parametrize("model", sorted({model for model, *_ in of_installed([*SAMPLED, *CHOICES])}))
async def test_what_a_provider_refuses_is_left_out(model: str) -> None:
    body = await sent(model, sampling=Sampling(seed=2**40, stop=("\n",)), max_output_tokens=1)
    said = json.dumps(body)
    assert (str(2**40) in said) == model.startswith(("groq", "mistral", "ollama", "openai-chat", "openrouter")), said
    assert ('"\\n"' in said) != (
        "claude" in model or model.startswith(("openai:", "openai-chat:gpt-5", "bedrock:meta"))
    )
    assert limit_of(body) == (16 if model.startswith("openai:") else 1), said


@pytest.mark.parametrize("model", [model for model, _ in of_installed(SAMPLED)])
async def test_pictures_reach_the_model(model: str) -> None:
    body = await sent(model, UserMessage("What is this?", (PICTURE, PICTURE)), CALLED, *history(CALLED)[2:])
    question = next(line for line in history_of(body) if line.get("role") == "user")
    text, *pictures = question.get("parts") or question["content"]
    assert text["text"] == "What is this?"
    wanted = PICTURES.get(model.partition(":")[0], IMAGE_URL)
    assert len(pictures) == 2
    assert contains(pictures, [wanted, wanted]), pictures


@pytest.mark.parametrize("limit", [1, 1024, 1400])
@pytest.mark.parametrize("model", ["anthropic:claude-haiku-4-5", "bedrock:anthropic.claude-sonnet-4-5-20250929-v1:0"])
async def test_reasoning_leaves_room_for_an_answer_that_the_prompt_limits(model: str, limit: int) -> None:
    if not dialect_of(model):
        return
    body = await sent(model, reasoning_effort="max", max_output_tokens=limit)
    thinking = (body.get("additionalModelRequestFields") or body).get("thinking")
    assert (thinking is None) == (limit <= 1024)
    assert not thinking or 1024 <= thinking["budget_tokens"] < limit


async def test_a_prompt_cannot_raise_the_operators_limit() -> None:
    for model in (model for model, _ in of_installed(SAMPLED)):
        assert limit_of(await sent(model, max_output_tokens=99_999_999)) <= 8192, model


def limit_of(body: Mapping[str, Any]) -> int:
    """Returns how many tokens the answer may have, whatever the provider calls that."""
    every = {**body, **body.get("inferenceConfig", {}), **body.get("generationConfig", {})}
    names = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxTokens", "maxOutputTokens")
    [limit] = [every[name] for name in names if name in every]
    return limit
