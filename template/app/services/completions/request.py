"""Turns what a client sends into what a model is asked, and says what is not supported."""

import re
from base64 import b64decode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from app.core.errors import Invalid
from app.schemas import chat_completion as body
from app.schemas.client_tool import DeclaredTool
from app.services.ai import (
    AssistantMessage,
    ChatMessage,
    Image,
    Prompt,
    Sampling,
    ToolCall,
    ToolChoice,
    ToolResult,
    UserMessage,
)
from app.services.ai.schema_limits import SchemaLimits
from app.services.completions.base import CompletionRequest, UnsupportedParameter

IGNORED = {
    *("metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
    *("service_tier", "store", "user", "verbosity"),
}
"""Names the parameters that change nothing here, and do no harm."""
NEUTRAL: Mapping[str, Collection[Any]] = {
    "functions": ([],),
    "logit_bias": ({}, ""),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "top_logprobs": (0,),
}
"""Maps parameters that are not supported to the values with which they ask for nothing."""
SIGNATURES = {
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/jpeg": rb"\xff\xd8\xff",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"RIFF....WEBP",
}
"""Maps the types of pictures to what they begin with."""
MAX_IMAGES = 50

_DATA_URL = re.compile(r"data:(image/[a-z]+);base64,(.*)", re.DOTALL)


def to_request(data: body.ChatCompletionCreate, max_characters: int, max_history_tokens: int) -> CompletionRequest:
    """Returns what is asked for. Raises UnsupportedParameter, Invalid."""
    _check_extra(data.model_extra or {})
    names: dict[str, str] = {}
    messages = [message for each in data.messages for message in _to_messages(each, names)]
    tools = _to_tools(list(map(_to_function, data.tools or ())))
    choice = _to_choice(data.tool_choice, tools)
    return CompletionRequest(
        model=data.model,
        messages=bound(check(join(messages), max_characters), max_history_tokens),
        instructions="\n\n".join(filter(None, (_text(m) for m in data.messages if isinstance(m, body.SystemMessage)))),
        tools=() if choice == "none" else tools,
        tool_choice=choice,
        temperature=data.temperature,
        reasoning_effort=data.reasoning_effort,
        sampling=Sampling(
            data.top_p,
            data.presence_penalty,
            data.frequency_penalty,
            data.seed,
            (data.stop,) if isinstance(data.stop, str) else tuple(data.stop or ()),
        ),
        max_output_tokens=data.max_completion_tokens or data.max_tokens,
        output_schema=_to_schema(data.response_format),
    )


def join(messages: Iterable[ChatMessage]) -> Sequence[ChatMessage]:
    """Returns the messages from the first of a user on, with those joined that one side has sent in a row."""
    joined: list[ChatMessage] = []
    for message in messages:
        last = joined[-1] if joined else None
        match last, message:
            case None, AssistantMessage() | ToolResult():
                continue
            case UserMessage(text, images), UserMessage(more, others):
                joined[-1] = UserMessage("\n\n".join(filter(None, (text, more))), (*images, *others))
            case AssistantMessage(text, []), AssistantMessage(more):
                joined[-1] = replace(message, text="\n\n".join(filter(None, (text, more))))
            case _:
                joined.append(message)
    return joined


def check(messages: Sequence[ChatMessage], max_characters: int) -> Sequence[ChatMessage]:
    """Returns the messages. Raises Invalid unless a model can answer them."""
    if not messages or isinstance(messages[-1], AssistantMessage):
        raise Invalid("The last message must be of the role user or tool.")
    for number, message in enumerate(messages):
        calls = [call.id for call in message.tool_calls] if isinstance(message, AssistantMessage) else []
        results = [
            after.call_id for after in messages[number + 1 : number + 1 + len(calls)] if isinstance(after, ToolResult)
        ]
        if sorted(calls) != sorted(results):
            raise Invalid(f"Each call needs one message of the role tool, right after it: {', '.join(calls)[:200]}.")
    if sum(isinstance(message, ToolResult) for message in messages) > sum(map(_count_calls, messages)):
        raise Invalid("A message of the role tool must follow the call that it answers.")
    newest = next(message for message in reversed(messages) if isinstance(message, UserMessage))
    if len(newest.text) > max_characters:
        raise Invalid(f"A message has at most {max_characters} characters.")
    if isinstance(messages[-1], UserMessage) and not (newest.text.strip() or newest.images):
        raise Invalid("The last message must not be blank.")
    if sum(len(message.images) for message in messages if isinstance(message, UserMessage)) > MAX_IMAGES:
        raise Invalid(f"A request has at most {MAX_IMAGES} pictures.")
    return messages


def bound(messages: Sequence[ChatMessage], max_tokens: int) -> Sequence[ChatMessage]:
    """Returns the newest turn, which begins with the user's message, after as many of those before it as fit."""
    starts = [number for number, message in enumerate(messages) if isinstance(message, UserMessage)]
    first, left = starts[-1], max_tokens
    for start, end in reversed(list(pairwise(starts))):
        left -= Prompt(messages[start:end]).estimate_tokens()
        if left < 0:
            break
        first = start
    return messages[first:]


def _check_extra(extra: Mapping[str, Any]) -> None:
    for name, value in extra.items():
        if value is not None and name not in IGNORED and value not in NEUTRAL.get(name, ()):
            raise UnsupportedParameter(name[:100], f"The parameter {name[:100]} is not supported; leave it out.")


def _to_messages(message: body.MessageParam, names: dict[str, str]) -> Sequence[ChatMessage]:
    """Returns the message, unless it is empty or one of instructions.

    `names` are those of the functions that were called so far, by the calls' ids.
    """
    match message:
        case body.UserMessage():
            return [UserMessage(_text(message), tuple(_images(message)))]
        case body.AssistantMessage(tool_calls=asked):
            calls = [ToolCall(call.id, call.function.name, call.function.arguments or "{}") for call in asked or ()]
            names |= {call.id: call.name for call in calls}
            text = _text(message)
            return [AssistantMessage(text, calls)] if text.strip() or calls else []
        case body.ToolMessage():
            return [ToolResult(message.tool_call_id, names.get(message.tool_call_id, ""), _text(message))]
        case _:
            return []


def _parts(message: body.MessageParam) -> Sequence[body.ContentPart]:
    """Raises UnsupportedParameter for parts that only others take."""
    supported = {"text", "image_url" if isinstance(message, body.UserMessage) else "refusal"}
    parts = () if isinstance(message.content, str | None) else message.content
    for part in parts:
        if part.type not in supported:
            sentence = f"A message of the role {message.role} takes no part of the type {part.type}."
            raise UnsupportedParameter("messages", sentence)
    return parts


def _text(message: body.MessageParam) -> str:
    content = message.content
    return content if isinstance(content, str) else "\n".join(filter(None, (part.text for part in _parts(message))))


def _images(message: body.UserMessage) -> Iterable[Image]:
    for part in _parts(message):
        if part.image_url is not None:
            yield _to_image(part.image_url.url)
        elif part.type == "image_url":
            raise Invalid("A part of the type image_url needs the picture as its image_url.")


def _to_image(url: str) -> Image:
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise UnsupportedParameter("image_url", "Send a PNG, JPEG, GIF or WebP itself (data:image/png;base64,…).")
    try:
        data = b64decode(found[2], validate=True)
    except ValueError:  # that of base64 is one, and so is that of letters beyond ASCII
        raise Invalid("A picture is not valid base64.") from None
    for media_type, signature in SIGNATURES.items():
        if re.match(signature, data, re.DOTALL):
            return Image(media_type, data)
    raise Invalid("A picture must be PNG, JPEG, GIF or WebP.")


def _to_function(tool: body.FunctionTool) -> body.FunctionDefinition:
    if tool.type != "function":
        raise UnsupportedParameter("tools", f"Tools of the type {tool.type} are not supported; declare functions.")
    if tool.function is None:
        raise Invalid("A tool needs its function.")
    return tool.function


def _to_tools(functions: Sequence[body.FunctionDefinition]) -> Sequence[DeclaredTool]:
    limits, names = SchemaLimits(), set[str]()
    for function in functions:
        if function.name in names:
            raise Invalid(f"Two functions have the name {function.name}.")
        names.add(function.name)
        limits.check(_to_parameters(function), f"The schema of {function.name}")
    return [
        DeclaredTool(
            name=function.name,
            description=function.description or "",
            input_schema=_to_parameters(function),
        )
        for function in functions
    ]


def _to_parameters(function: body.FunctionDefinition) -> dict[str, Any]:
    return {"type": "object", "properties": {}, **(function.parameters or {})}


def _to_choice(choice: str | body.ToolChoice | None, tools: Sequence[DeclaredTool]) -> ToolChoice:
    if isinstance(choice, body.ToolChoice):
        if choice.function.name not in {tool.name for tool in tools}:
            raise Invalid(f"tool_choice names {choice.function.name[:100]}, which is none of the tools.")
        return choice.function.name
    if choice == "required" and not tools:
        raise Invalid("tool_choice requires a call, but there are no tools.")
    return choice or "auto"


def _to_schema(format: body.ResponseFormat | None) -> dict[str, Any] | None:
    if format is None or format.type == "text":
        return None
    schema = format.json_schema and format.json_schema.schema_
    if format.type == "json_object" or schema is None:
        return {"type": "object"}
    SchemaLimits().check(schema, "The schema of response_format")
    return schema


def _count_calls(message: ChatMessage) -> int:
    return len(message.tool_calls) if isinstance(message, AssistantMessage) else 0
