"""Describes two requests with tools, and what each provider must be sent in the second."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.services.ai import (
    AssistantMessage,
    ChatMessage,
    Prompt,
    ToolResult,
    ToolSpec,
    UserMessage,
)
from app.services.ai.fallback import FallbackGateway
from tests.protocols import gateway
from tests.protocols.dialect import SECRET
from tests.protocols.gateway import Heard

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [ToolSpec("weather", "Tells the weather.", SCHEMA)]
ASKED = UserMessage(f"Is it warm in {SECRET}?")
WORDS = "Let me see."
RESULTS = {"call_1": "18 degrees", "call_2": "The tool failed."}


async def ask(
    ai: FallbackGateway,
    *messages: ChatMessage,
    tools: Sequence[ToolSpec] = TOOLS,
    instructions: str = "Be brief.",
    **more: Any,
) -> Heard:
    return await gateway.ask(ai, Prompt(messages, instructions, tools=tools, temperature=2.0, **more))


def history(answer: AssistantMessage) -> Sequence[ChatMessage]:
    """Returns the messages with which the second request begins."""
    return [ASKED, answer, *(ToolResult(call.id, call.name, RESULTS[call.id]) for call in answer.tool_calls)]


def _completions(**function: Any) -> Mapping[str, Any]:
    function = {"name": "weather", "description": "Tells the weather.", **function}
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
    ]
    return {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": ASKED.text},
            {"role": "assistant", "content": WORDS, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"},
            {"role": "tool", "tool_call_id": "call_2", "content": "The tool failed."},
        ],
        "tools": [{"type": "function", "function": function}],
        "temperature": 2.0,
    }


_STRICT = {"parameters": {**SCHEMA, "additionalProperties": False}, "strict": True}
_MISTRALS = {"call_1": "74196fe72", "call_2": "1b68f83fa"}
"""Maps the ids of calls to Mistral's, which have exactly nine letters and digits."""

SECOND: Mapping[str, Mapping[str, Any]] = {
    "anthropic:claude-test": {
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": ASKED.text}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": WORDS},
                    {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}},
                    {"type": "tool_use", "id": "call_2", "name": "weather", "input": {"city": "Oslo"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": id,
                        "content": [{"type": "text", "text": result}],
                        "is_error": False,
                    }
                    for id, result in RESULTS.items()
                ],
            },
        ],
        "tools": [{"name": "weather", "description": "Tells the weather.", "input_schema": SCHEMA}],
        "temperature": 1.0,
    },
    "bedrock:anthropic.claude-test-v1:0": {
        "system": [{"text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"text": ASKED.text}]},
            {
                "role": "assistant",
                "content": [
                    {"text": WORDS},
                    {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Rome"}}},
                    {"toolUse": {"toolUseId": "call_2", "name": "weather", "input": {"city": "Oslo"}}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": id, "content": [{"text": result}], "status": "success"}}
                    for id, result in RESULTS.items()
                ],
            },
        ],
        "toolConfig": {
            "tools": [
                {
                    "toolSpec": {
                        "name": "weather",
                        "description": "Tells the weather.",
                        "inputSchema": {"json": SCHEMA},
                    }
                }
            ],
            "toolChoice": {"auto": {}},
        },
        "inferenceConfig": {"maxTokens": 8192, "temperature": 1.0},
    },
    "google:gemini-test": {
        "systemInstruction": {"role": "user", "parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": ASKED.text}]},
            {
                "role": "model",
                "parts": [
                    {"text": WORDS},
                    {
                        "functionCall": {"id": "call_1", "name": "weather", "args": {"city": "Rome"}},
                        # Some models require a thought signature with a call, or this value where there was no thought.
                        "thoughtSignature": "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=",
                    },
                    {"functionCall": {"id": "call_2", "name": "weather", "args": {"city": "Oslo"}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": id, "name": "weather", "response": {"return_value": result}}}
                    for id, result in RESULTS.items()
                ],
            },
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "weather", "description": "Tells the weather.", "parameters_json_schema": SCHEMA}
                ]
            }
        ],
        "generationConfig": {"temperature": 2.0, "maxOutputTokens": 8192, "responseModalities": ["TEXT"]},
    },
    "mistral:mistral-test": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": ASKED.text},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": WORDS}],
                "tool_calls": [
                    {
                        "id": _MISTRALS[id],
                        "type": "function",
                        "index": 0,
                        "function": {"name": "weather", "arguments": arguments},
                    }
                    for id, arguments in (("call_1", '{"city":"Rome"}'), ("call_2", '{"city":"Oslo"}'))
                ],
                "prefix": False,
            },
            *({"role": "tool", "tool_call_id": _MISTRALS[id], "content": result} for id, result in RESULTS.items()),
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "description": "Tells the weather.", "parameters": SCHEMA},
            }
        ],
        "temperature": 1.5,
    },
    "groq:llama-test": _completions(parameters=SCHEMA),
    "ollama:llama-test": _completions(parameters=SCHEMA),
    "openrouter:openai/gpt-test": _completions(**_STRICT),
    "openai-chat:gpt-5-test": {**_completions(**_STRICT), "temperature": None},
    "openai:gpt-5-test": {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": ASKED.text},
            {
                "id": "msg_68f1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": WORDS, "annotations": []}],
            },
            {
                "id": "fc_1",
                "type": "function_call",
                "call_id": "call_1",
                "name": "weather",
                "arguments": '{"city":"Rome"}',
            },
            {
                "id": "fc_2",
                "type": "function_call",
                "call_id": "call_2",
                "name": "weather",
                "arguments": '{"city":"Oslo"}',
            },
            *({"type": "function_call_output", "call_id": id, "output": result} for id, result in RESULTS.items()),
        ],
        "tools": [
            {
                "type": "function",
                "name": "weather",
                "description": "Tells the weather.",
                **_STRICT,
            }
        ],
        "temperature": None,
    },
}
"""Maps each model to the expected fields of the request; other fields are not compared."""
