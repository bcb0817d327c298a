"""Tests reasoning, its effort and structured output of each provider's models, through its own SDK."""

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from app.services.ai import AssistantMessage, Prompt, Reasoning, UserMessage
from tests.protocols.dialect import SIGNATURE, Call, Dialect
from tests.protocols.gateway import gateway
from tests.protocols.rounds import ASKED, TOOLS, ask, history
from tests.protocols.server import problem
from tests.protocols.spoken import INSTALLED

CALL = Call("call_1", "weather", ('{"city": "Rome"}',))
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
THOUGHT = "Rome, 😀 then."
PIECES = ["Rome, \ud83d", "\ude00 then."]
SDK_PIECES = ["Rome, ", "😀 then."]
"""Holds the thought in pieces for SDKs that refuse halves of characters."""
_TAGGED = f"<think>\n{THOUGHT}\n</think>"
_SUMMARIES = [{"type": "summary_text", "text": text} for text in (THOUGHT, "That is all.")]
_DETAIL = {"type": "reasoning.text", "text": THOUGHT, "signature": SIGNATURE, "format": "anthropic-claude-v1"}

RETURNED: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]] = {
    "anthropic": (
        "claude-haiku-4-5",
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE},
                    {"type": "redacted_thinking", "data": SIGNATURE},
                    {"type": "tool_use", "id": "call_1"},
                ],
            }
        ],
    ),
    "bedrock": (
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        [
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": THOUGHT, "signature": SIGNATURE}}},
                    {"toolUse": {"toolUseId": "call_1"}},
                ],
            }
        ],
    ),
    "google": (
        "gemini-3-pro-preview",
        [
            {
                "role": "model",
                "parts": [
                    {"text": THOUGHT, "thought": True},
                    {"functionCall": {"name": "weather"}, "thoughtSignature": SIGNATURE},
                ],
            }
        ],
    ),
    "groq": ("openai/gpt-oss-20b", [{"role": "assistant", "content": _TAGGED, "tool_calls": [{"id": "call_1"}]}]),
    "mistral": (
        "mistral-small-latest",
        [{"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}]}],
    ),
    "ollama": ("deepseek-r1", [{"role": "assistant", "reasoning": THOUGHT, "tool_calls": [{"id": "call_1"}]}]),
    "openai": (
        "gpt-5-mini",
        [
            {"type": "reasoning", "id": "rs_68f1", "encrypted_content": SIGNATURE, "summary": _SUMMARIES},
            {"type": "function_call", "call_id": "call_1"},
        ],
    ),
    "openai-chat": ("some-model", [{"role": "assistant", "reasoning_content": THOUGHT, "content": None}]),
    "openrouter": ("anthropic/claude-sonnet-4.5", [{"role": "assistant", "reasoning_details": [_DETAIL]}]),
}
"""Holds for each provider a model that reasons, and what it gets back after it has called a tool."""

BUDGET = {"type": "enabled", "budget_tokens": 6144}
EFFORTS: Sequence[tuple[str, str, Mapping[str, Any]]] = [
    ("anthropic:claude-haiku-4-5", "high", {"thinking": BUDGET, "max_tokens": 8192, "temperature": ...}),
    ("anthropic:claude-haiku-4-5", "low", {"thinking": {**BUDGET, "budget_tokens": 2048}}),
    ("anthropic:claude-haiku-4-5", "none", {"thinking": ..., "temperature": 1.0}),
    (
        "anthropic:claude-opus-4-7",
        "high",
        {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
    ),
    (
        "bedrock:anthropic.claude-sonnet-4-5-20250929-v1:0",
        "max",
        {"additionalModelRequestFields": {"thinking": BUDGET}, "inferenceConfig": {"temperature": ...}},
    ),
    (
        "bedrock:anthropic.claude-opus-4-6-v1",
        "medium",
        {"additionalModelRequestFields": {"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}},
    ),
    ("bedrock:amazon.nova-pro-v1:0", "high", {"additionalModelRequestFields": ...}),
    (
        "google:gemini-3-pro-preview",
        "high",
        {"generationConfig": {"thinkingConfig": {"include_thoughts": True, "thinking_level": "HIGH"}}},
    ),
    (
        "google:gemini-2.5-flash",
        "high",
        {"generationConfig": {"thinkingConfig": {"include_thoughts": True, "thinking_budget": 6144}}},
    ),
    ("google:gemini-2.0-flash", "high", {"generationConfig": {"thinkingConfig": ...}}),
    ("groq:openai/gpt-oss-20b", "xhigh", {"reasoning_effort": "high", "reasoning_format": "parsed"}),
    ("groq:qwen/qwen3-32b", "none", {"reasoning_effort": "none"}),
    ("groq:llama-3.1-8b-instant", "high", {"reasoning_effort": ..., "temperature": 2.0}),
    ("mistral:mistral-small-latest", "low", {"reasoning_effort": "high", "temperature": 1.5}),
    ("mistral:mistral-test", "low", {"reasoning_effort": ...}),
    ("ollama:deepseek-r1", "medium", {"reasoning_effort": "medium"}),
    ("ollama:llama-test", "medium", {"reasoning_effort": ...}),
    ("openai:gpt-5-mini", "minimal", {"reasoning": {"effort": "minimal", "summary": "auto"}, "temperature": ...}),
    ("openai:gpt-5.1", "none", {"reasoning": {"effort": "none", "summary": ...}, "temperature": 2.0}),
    ("openai:gpt-5.1", "high", {"reasoning": {"effort": "high", "summary": "auto"}, "temperature": ...}),
    ("openai:gpt-4o", "high", {"reasoning": ..., "temperature": 2.0}),
    ("openai-chat:gpt-5-mini", "low", {"reasoning_effort": "low", "temperature": ...}),
    ("openai-chat:some-model", "low", {"reasoning_effort": ..., "temperature": 2.0}),
    (
        "openrouter:anthropic/claude-sonnet-4.5",
        "high",
        {"reasoning": {"effort": "high", "enabled": True}, "temperature": ...},
    ),
]
"""Lists models, efforts and what is sent for them, where an ellipsis stands for nothing."""

_FORMAT = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
SCHEMAS: Sequence[tuple[str, Mapping[str, Any] | None]] = [
    ("anthropic:claude-haiku-4-5", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    ("anthropic:claude-test", None),
    ("bedrock:anthropic.claude-sonnet-4-5-20250929-v1:0", {"outputConfig": {"textFormat": {"type": "json_schema"}}}),
    ("bedrock:amazon.nova-pro-v1:0", None),
    ("google:gemini-3-pro-preview", {"generationConfig": {"responseMimeType": "application/json"}}),
    ("google:gemini-2.5-flash", None),
    ("groq:moonshotai/kimi-k2", {"response_format": _FORMAT}),
    ("groq:llama-test", None),
    ("mistral:mistral-test", None),
    ("ollama:llama-test", {"response_format": _FORMAT}),
    ("openai:gpt-5-mini", {"text": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    ("openai-chat:some-model", {"response_format": _FORMAT}),
    ("openrouter:anthropic/claude-sonnet-4.5", {"response_format": _FORMAT}),
]
"""Lists models and what asks them for a schema; nothing for those that are asked by instructions."""

every = pytest.mark.parametrize("dialect", INSTALLED, ids=lambda dialect: dialect.model)


def dialect_of(model: str) -> Dialect | None:
    provider = model.partition(":")[0]
    return next((dialect for dialect in INSTALLED if dialect.model.partition(":")[0] == provider), None)


def of_installed(cases: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
    return [case for case in cases if dialect_of(case[0])]


def contains(found: Any, wanted: Any) -> bool:
    """Tells whether all that is wanted is there, with what an ellipsis stands for not there."""
    if isinstance(wanted, Mapping):
        found = found or {}
        missing = [key for key, value in wanted.items() if value is ... and key in found]
        return not missing and all(contains(found.get(key), value) for key, value in wanted.items() if value is not ...)
    if isinstance(wanted, list):
        return len(found) >= len(wanted) and all(map(contains, found, wanted))
    return found == wanted


def history_of(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return body.get("messages") or body.get("contents") or body["input"]


@every
async def test_reasoning_is_shown_and_goes_back_after_a_tool_call(dialect: Dialect) -> None:
    name, returned = RETURNED[dialect.model.partition(":")[0]]
    has_halves = dialect.sdk == "openai"
    async with gateway(dialect, f"{dialect.model.partition(':')[0]}:{name}") as (ai, server):
        server.will(dialect.reason_and_call(*(PIECES if has_halves else SDK_PIECES), call=CALL), dialect.speak("Yes."))
        first = await ask(ai, ASKED, reasoning_effort="high")
        assert (first.text, first.code, len(first.message.tool_calls)) == ("", None, 1)
        assert first.reasoning in (THOUGHT, f"{THOUGHT}\n\nThat is all.")
        second = await ask(ai, *history(first.message), reasoning_effort="high")
        assert (second.text, second.reasoning, second.message.reasoning) == ("Yes.", "", "")
    said = history_of(server.requests[1].body)
    begin = next(
        number for number, line in enumerate(said) if line.get("role", line.get("type")) not in ("user", "system")
    )
    assert contains(said[begin : begin + len(returned)], returned), said[begin:]


@every
async def test_each_piece_is_shown_at_once_and_before_the_text(dialect: Dialect) -> None:
    name, _ = RETURNED[dialect.model.partition(":")[0]]
    async with gateway(dialect, f"{dialect.model.partition(':')[0]}:{name}") as (ai, server):
        server.will(dialect.reason_and_call(*SDK_PIECES, call=CALL))
        async with ai.ask(Prompt([ASKED], tools=TOOLS)) as stream:
            pieces = [piece async for piece in stream]
    assert pieces[:2] == list(map(Reasoning, SDK_PIECES))
    assert stream.usage.output_tokens > 0


@pytest.mark.parametrize(("model", "effort", "fields"), of_installed(EFFORTS))
async def test_effort_is_sent_in_the_providers_form(model: str, effort: str, fields: Mapping[str, Any]) -> None:
    dialect = dialect_of(model)
    assert dialect
    async with gateway(dialect, model) as (ai, server):
        server.will(dialect.speak("Yes."))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (await ask(ai, ASKED, reasoning_effort=effort)).text == "Yes."
    assert contains(server.requests[0].body, fields), server.requests[0].body


@pytest.mark.parametrize("limit", [1, 1024, 1025, 1400, 8192])
@pytest.mark.parametrize("model", ["anthropic:claude-haiku-4-5", "bedrock:anthropic.claude-sonnet-4-5-20250929-v1:0"])
async def test_a_budget_leaves_room_for_the_answer(model: str, limit: int) -> None:
    if not (dialect := dialect_of(model)):
        return
    async with gateway(dialect, model, ai_max_output_tokens=limit) as (ai, server):
        server.will(dialect.speak("Yes."))
        assert (await ask(ai, ASKED, reasoning_effort="max")).text == "Yes."
    body = server.requests[0].body
    thinking = (body.get("additionalModelRequestFields") or body).get("thinking")
    assert (thinking is None) == (limit <= 1024)
    assert not thinking or 1024 <= thinking["budget_tokens"] < limit


@pytest.mark.parametrize(("model", "fields"), of_installed(SCHEMAS))
async def test_a_schema_is_asked_for_beside_tools(model: str, fields: Mapping[str, Any] | None) -> None:
    dialect, answer = dialect_of(model), '{"city": "Rome"}'
    assert dialect
    async with gateway(dialect, model) as (ai, server):
        server.will(dialect.speak(answer[:5], answer[5:]))
        assert (await ask(ai, ASKED, output_schema=SCHEMA)).text == answer
    body = server.requests[0].body
    instructions = json.dumps([body.get("system"), body.get("systemInstruction"), history_of(body)])
    assert ("additionalProperties" in instructions) == (fields is None)
    assert contains(body, fields or {}), body
    assert '"weather"' in json.dumps(body.get("tools") or body["toolConfig"])


@pytest.mark.parametrize("model", [model for model, _ in of_installed(SCHEMAS)])
async def test_a_schema_is_asked_for_without_tools_and_with_an_effort(model: str) -> None:
    dialect = dialect_of(model)
    assert dialect
    async with gateway(dialect, model) as (ai, server):
        server.will(dialect.speak("{}"))
        prompt = {"tools": [], "output_schema": SCHEMA, "reasoning_effort": "high"}
        assert (await ask(ai, ASKED, **prompt)).text == "{}"
    assert "city" in json.dumps(server.requests[0].body)


@pytest.mark.parametrize("model", [model for model, _ in of_installed(SCHEMAS)])
async def test_a_schema_that_makes_no_sense_is_a_failure_at_most(model: str) -> None:
    dialect, nowhere = dialect_of(model), {"$ref": "#/$defs/nowhere"}
    assert dialect
    async with gateway(dialect, model) as (ai, server):
        server.will(dialect.speak("{}"))
        heard = await ask(ai, ASKED, output_schema={"type": "object", "properties": {"a": nowhere}})
    assert (heard.text, heard.code) in [("{}", None), ("", "model_error")]


async def test_openai_may_refuse_summaries() -> None:
    if not (dialect := dialect_of("openai:gpt-5-mini")):
        return
    error = {"message": "Verify your organization.", "type": "invalid_request_error", "param": "reasoning.summary"}
    async with gateway(dialect, "openai:gpt-5-mini") as (ai, server):
        server.will(problem(400, {"error": {**error, "code": "unsupported_value"}}), dialect.speak("Yes."))
        assert (await ask(ai, ASKED, reasoning_effort="high")).text == "Yes."
    assert [request.body["reasoning"] for request in server.requests] == [
        {"effort": "high", "summary": "auto"},
        {"effort": "high"},
    ]


def test_the_budget_counts_a_schema_and_reasoning() -> None:
    said = AssistantMessage("Yes.", reasoning=THOUGHT)
    texts = [*Prompt([UserMessage("Well?"), said], output_schema=SCHEMA).texts()]
    assert {json.dumps(SCHEMA), THOUGHT} < {*texts}
