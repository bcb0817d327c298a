"""Converts prompts and messages to pydantic-ai's types, and back."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256

from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.tools import ToolDefinition

from app.services.ai.base import AssistantMessage, Prompt, ToolCall, ToolResult, ToolSpec, UserMessage
from app.services.ai.surrogates import join_surrogates
from app.services.ai.thinking_tags import WITHHELD


def to_messages(prompt: Prompt, to_call_id: Callable[[str], str] = str) -> Sequence[ModelMessage]:
    """Converts a prompt's messages. All messages between two of the model's become one request."""
    messages: list[ModelMessage] = []
    parts: list[ModelRequestPart] = []
    instructions = prompt.instructions or None
    for message in prompt.messages:
        match message:
            case UserMessage(text, images):
                pictures = [BinaryContent(image.data, media_type=image.media_type) for image in images]
                parts.append(UserPromptPart([*filter(None, [text]), *pictures] if pictures else text))
            case ToolResult(call_id, name, content):
                parts.append(ToolReturnPart(tool_name=name, content=content, tool_call_id=to_call_id(call_id)))
            case AssistantMessage():
                messages += [ModelRequest(parts, instructions=instructions), _to_response(message, to_call_id)]
                parts = []
    return [*messages, ModelRequest(parts, instructions=instructions)]


def to_tool(tool: ToolSpec) -> ToolDefinition:
    return ToolDefinition(name=tool.name, description=tool.description, parameters_json_schema=dict(tool.input_schema))


def from_response(response: ModelResponse, code: str | None, reasoning: str) -> AssistantMessage:
    """Converts a complete response, and keeps it in `raw` as its provider wants it back."""
    parts = [_clean(part) for part in response.parts if not _is_withheld(part)]
    response = replace(response, parts=parts)
    return AssistantMessage(
        text="".join(part.content for part in response.parts if isinstance(part, TextPart)),
        tool_calls=[ToolCall(part.tool_call_id, part.tool_name, _arguments(part)) for part in response.tool_calls],
        raw=ModelMessagesTypeAdapter.dump_json([response], exclude_none=True).decode(),
        code=code,
        reasoning=reasoning,
    )


def response_texts(response: ModelResponse) -> Iterator[str]:
    """Yields all text that a model has written, its reasoning and tool calls included."""
    for part in response.parts:
        match part:
            case TextPart(content=text) | ThinkingPart(content=text):
                yield text.replace(WITHHELD, "")
            case ToolCallPart(tool_name=name):
                yield from (name, _arguments(part))
            case _:
                pass


def short_id(id: str) -> str:
    """Returns an id that Mistral accepts for another provider's, which a fallback may find in the history."""
    return id if re.fullmatch(r"[a-zA-Z0-9]{9}", id) else sha256(id.encode()).hexdigest()[:9]


def _to_response(message: AssistantMessage, to_call_id: Callable[[str], str]) -> ModelMessage:
    if message.raw is None:
        text = [TextPart(message.text)] if message.text else []
        calls = [ToolCallPart(call.name, call.arguments, call.id) for call in message.tool_calls]
        response = ModelResponse([*text, *calls])
    else:
        [response] = ModelMessagesTypeAdapter.validate_json(message.raw)
    for part in response.parts:
        if isinstance(part, ToolCallPart):
            part.tool_call_id = to_call_id(part.tool_call_id)
    return response


def _is_withheld(part: ModelResponsePart) -> bool:
    """Tells whether a thought was found to be text in the end."""
    return isinstance(part, ThinkingPart) and bool(part.content) and not part.content.strip(WITHHELD)


def _clean(part: ModelResponsePart) -> ModelResponsePart:
    match part:
        case TextPart(content=text):
            return replace(part, content=join_surrogates(text))
        case ThinkingPart(content=text):
            return replace(part, content=join_surrogates(text.replace(WITHHELD, "")))
        case ToolCallPart(args=str(arguments)):
            return replace(part, args=join_surrogates(arguments))
        case _:
            return part


def _arguments(part: ToolCallPart) -> str:
    """Returns the arguments as the model wrote them, if its provider passes them on as text."""
    return part.args if isinstance(part.args, str) and part.args else part.args_as_json_str()
