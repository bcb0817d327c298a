"""Writes answers, and errors, as OpenAI's clients read them: whole, or in chunks."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from app.services.ai import Reasoning, ToolCall
from app.services.completions.base import Completion, CompletionEnd, Step

DONE = b"data: [DONE]\n\n"

_ERROR_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}


class Chunks:
    """Writes the chunks of one answer. What is the same in each is written once."""

    def __init__(self, completion: Completion, model: str, *, with_usage: bool) -> None:
        head = {**_head(completion, model), "object": "chat.completion.chunk"}
        self._head = b"data: " + to_json(head).removesuffix(b"}") + b","
        self._with_usage = with_usage

    def begin(self) -> bytes:
        return self._choice({"role": "assistant", "content": ""})

    def write(self, step: Step) -> Iterator[bytes]:
        match step:
            case str():
                yield self._choice({"content": step})
            case Reasoning(text):
                yield self._choice({"reasoning_content": text})
            case CompletionEnd(reason):
                yield self._choice({}, reason)
                if self._with_usage:
                    yield self._event({"choices": [], "usage": _usage(step)})
            case None:
                pass
            case calls:
                numbered = [{"index": number, **_call(call)} for number, call in enumerate(calls)]
                yield self._choice({"tool_calls": numbered})

    def _choice(self, delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        return self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    def _event(self, rest: Mapping[str, Any]) -> bytes:
        return self._head + to_json(rest)[1:] + b"\n\n"


async def collect(completion: Completion, model: str, steps: AsyncGenerator[Step]) -> Mapping[str, Any]:
    """Returns the whole answer. Raises what following it raises."""
    text, reasoning, calls = "", "", list[ToolCall]()
    async for step in steps:
        match step:
            case str():
                text += step
            case Reasoning(piece):
                reasoning += piece
            case CompletionEnd(reason):
                content = text or (None if calls else "")
                message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
                if reasoning:
                    message["reasoning_content"] = reasoning
                if calls:
                    message["tool_calls"] = list(map(_call, calls))
                choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
                head = {**_head(completion, model), "object": "chat.completion"}
                return {**head, "choices": [choice], "usage": _usage(step)}
            case None:
                pass
            case more:
                calls += more
    raise AssertionError("a completion stopped without its end")


def to_error(status: int, code: str, message: str, fields: Sequence[tuple[str, str]] = ()) -> Mapping[str, Any]:
    """Returns an error. `fields` are those of the request that are refused, each with the reason."""
    reasons = [f"{name}: {reason}." for name, reason in fields if reason != message]
    message = " ".join([message, *reasons])
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    param = fields[0][0] if fields else None
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _head(completion: Completion, model: str) -> dict[str, Any]:
    created = int(completion.created_at.timestamp())
    return {"id": f"chatcmpl-{completion.id.hex}", "created": created, "model": model}


def _call(call: ToolCall) -> Mapping[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _usage(end: CompletionEnd) -> Mapping[str, int]:
    used = {"prompt_tokens": end.input_tokens, "completion_tokens": end.output_tokens}
    return {**used, "total_tokens": end.input_tokens + end.output_tokens}
