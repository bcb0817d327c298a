"""Tests how each provider's models are asked to pick words, to call tools and to look at pictures, through its SDK."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.core.sampling import Sampling, ToolChoice
from app.services.ai import Image, UserMessage
from tests.integration.test_reasoning import contains, dialect_of, of_installed
from tests.protocols.gateway import gateway
from tests.protocols.rounds import ASKED, TOOLS, ask

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
        {"generationConfig": {"topP": 0.5, "seed": 7, "stopSequences": ["END"], "maxOutputTokens": 50}},
    ),
    ("groq:llama-test", {**CHAT}),
    ("mistral:mistral-test", {"top_p": 0.5, "random_seed": 7, "stop": ["END"], "max_tokens": 50}),
    ("ollama:llama-test", {**CHAT, "max_tokens": 50}),
    ("openai:gpt-5-mini", {"top_p": ..., "temperature": ..., "stop": ..., "max_output_tokens": 50}),
    ("openai:gpt-4o", {"top_p": 0.5, "temperature": 2.0, "max_output_tokens": 50}),
    ("openai-chat:some-model", {**CHAT, "max_tokens": 50}),
    ("openrouter:anthropic/claude-sonnet-4.5", {"stop": ["END"]}),
]
"""Lists models and what is sent for them, where an ellipsis stands for nothing."""

CHOICES: Sequence[tuple[str, ToolChoice, Any]] = [
    ("anthropic:claude-haiku-4-5", "required", {"tool_choice": {"type": "any"}}),
    ("anthropic:claude-haiku-4-5", "weather", {"tool_choice": {"type": "tool", "name": "weather"}}),
    ("bedrock:amazon.nova-pro-v1:0", "required", {"toolConfig": {"toolChoice": {"any": {}}}}),
    ("google:gemini-2.5-flash", "required", {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
    ("groq:llama-test", "required", {"tool_choice": "required"}),
    ("mistral:mistral-test", "required", {"tool_choice": "any"}),
    ("openai:gpt-5-mini", "weather", {"tool_choice": {"type": "function", "name": "weather"}}),
    ("openai-chat:some-model", "required", {"tool_choice": "required"}),
    ("openai-chat:some-model", "none", {}),
]


async def sent(model: str, *messages: UserMessage, **asked: Any) -> Mapping[str, Any]:
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


@pytest.mark.parametrize(("model", "choice", "fields"), of_installed(CHOICES))
async def test_a_tool_is_called_as_the_prompt_says(model: str, choice: ToolChoice, fields: Mapping[str, Any]) -> None:
    tools = [*TOOLS, replace(TOOLS[0], name="other")]
    body = await sent(model, tool_choice=choice, tools=tools)
    assert contains(body, fields), body


@pytest.mark.parametrize("model", ["anthropic:claude-haiku-4-5"])
async def test_a_model_that_reasons_decides_itself_which_tools_it_calls(model: str) -> None:
    if dialect_of(model):
        body = await sent(model, tool_choice="required", reasoning_effort="high")
        assert contains(body, {"tool_choice": {"type": "auto"}}) or "tool_choice" not in body, body


@pytest.mark.parametrize("model", [model for model, _ in of_installed(SAMPLED)])
async def test_pictures_reach_the_model(model: str) -> None:
    body = await sent(model, UserMessage("What is this?", (PICTURE,)))
    said = json.dumps(body)
    assert BASE64 in said, said
    assert "image/png" in said or '"png"' in said, said
