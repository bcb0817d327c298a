"""Reads chunks of Chat Completions in the forms in which servers send them, and returns them in OpenAI's."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.services.ai.json_values import to_array, to_count, to_numbers, to_object, to_text
from app.services.ai.thinking_tags import ThinkingTags
from app.services.ai.tool_call_reader import ToolCallReader

Chunk = Mapping[str, Any]

UNSTATED = "unstated"
"""Replaces the finish reason of an answer that is known to be whole although its server gave no reason."""
_COUNTS = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
"""Maps the counts of usage to the names that some servers use instead."""
_REASONS = {
    **dict.fromkeys(("max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"), "length"),
    **dict.fromkeys(("safety", "sensitive", "recitation", "prohibited_content", "blocklist"), "content_filter"),
}
"""Maps what servers call the reasons that OpenAI has, in lower case."""
_BROKEN = {"abort", "aborted", "cancelled", "error", "insufficient_system_resource", "network_error"}
"""Lists the finish reasons of answers that broke off."""
_THOUGHTS = ("reasoning", "reasoning_content", "reasoning_text", "thinking", "reasoning_details")
"""Lists the fields in which servers send thoughts, of which one that has any is read."""
_RETURNED = ("reasoning", "reasoning_content")
"""Lists the fields that keep their names, since their servers want thoughts back where they sent them."""
_REST = {*_THOUGHTS[:-1], "content", "tool_calls", "function_call"}


class ChunkReader:
    """Reads the chunks of one answer. At its end come its finish reason and its usage, of which the last ones count."""

    def __init__(self) -> None:
        self._tags = ThinkingTags()
        self._calls = ToolCallReader()
        self._usage: dict[str, Any] = {}
        self._is_usage_final = False
        self._finish_reason = ""
        self._head: Chunk = {}
        self._has_delta = False

    @property
    def is_finished(self) -> bool:
        """Tells whether the server has given a finish reason."""
        return bool(self._finish_reason)

    def read(self, chunk: Chunk) -> Iterator[Chunk]:
        self._head = _to_head(chunk)
        choices = [*filter(None, map(to_object, to_array(chunk.get("choices"))))]
        self._add_usage(chunk.get("usage") or to_object(chunk.get("x_groq")).get("usage"), is_final=not choices)
        if not choices:
            yield {**self._head, "choices": [], "usage": None}
        for choice in choices:
            if choice.get("index") in (0, "0", None):
                yield from self._read_choice(choice)

    def end(self, *, is_done: bool) -> Iterator[Chunk]:
        """Yields what is left. `is_done` tells whether the server said that the answer is whole."""
        if not self._head:
            return
        yield from map(self._to_chunk, map(_to_delta, self._tags.end()))
        yield from (self._to_chunk({"tool_calls": [piece]}) for piece in self._calls.end())
        if self._finish_reason in _BROKEN:
            yield {"error": {"message": "the answer broke off", "code": "server_error"}}
        yield self._to_chunk({}, self._finish_reason or (UNSTATED if is_done or self._is_usage_final else None))
        if self._usage:
            counts = {name: self._usage.get(name, 0) for name in _COUNTS}
            usage = {**self._usage, **counts, "total_tokens": sum(counts.values())}
            yield {**self._head, "choices": [], "usage": usage}

    def _to_chunk(self, delta: Chunk, finish_reason: str | None = None) -> Chunk:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**self._head, "choices": [choice], "usage": None}

    def _read_choice(self, choice: Chunk) -> Iterator[Chunk]:
        self._finish_reason = _to_reason(choice.get("finish_reason")) or self._finish_reason
        self._add_usage(choice.get("usage"), is_final=False)
        if error := choice.get("error"):
            yield {"error": error}
        yield from map(self._to_chunk, self._read_delta(self._get_delta(choice)))

    def _get_delta(self, choice: Chunk) -> Chunk:
        """Returns what the choice adds. A server that does not stream puts all into `message`; others repeat it."""
        delta = choice.get("delta")
        if delta is None and not self._has_delta:
            delta = choice.get("message")
        self._has_delta |= bool(delta)
        return to_object(delta)

    def _read_delta(self, delta: Chunk) -> Iterator[Chunk]:
        """Yields the parts of a delta one by one, so that they keep their order."""
        content, older = delta.get("content"), delta.get("function_call")
        thoughts = {name: thought for name in _THOUGHTS if (thought := _flatten(delta.get(name)))}
        field, thought = next(iter(thoughts.items()), ("", _thoughts_in(content)))
        rest = {name: value for name, value in delta.items() if name not in _REST}
        if thought:
            rest[field if field in _RETURNED else "reasoning_content"] = thought
        if rest:
            yield rest
        yield from map(_to_delta, self._tags.read(_text_in(content)))
        calls = delta.get("tool_calls") or (older and {"index": 0, "function": older})
        yield from ({"tool_calls": [piece]} for piece in self._calls.read(calls))

    def _add_usage(self, usage: Any, *, is_final: bool) -> None:
        if usage and (counted := _to_usage(to_object(usage))):
            self._usage |= counted
            self._is_usage_final |= is_final


def _to_head(chunk: Chunk) -> Chunk:
    """Returns the fields that all chunks of an answer have, with values of types that the client can read."""
    head = {name: value for name, value in chunk.items() if name not in ("choices", "usage", "x_groq")}
    return {**head, "id": to_text(chunk.get("id")), "model": to_text(chunk.get("model")), "created": 0}


def _to_reason(value: Any) -> str:
    reason = to_text(value)
    known = reason.lower().partition(":")[0]
    return _REASONS.get(known, known if known in (*_BROKEN, "content_filter") else reason)


def _to_delta(marked: tuple[str, bool]) -> Chunk:
    piece, is_thought = marked
    return {"reasoning_content" if is_thought else "content": piece}


def _text_in(content: Any) -> str:
    """Returns the text of a content, which may be a list of parts."""
    parts = map(to_object, to_array(content))
    return to_text(content) or "".join(to_text(part.get("text")) for part in parts if part.get("type") == "text")


def _thoughts_in(content: Any) -> str:
    return _flatten([part for part in map(to_object, to_array(content)) if part.get("type") in _THOUGHTS])


def _flatten(thought: Any) -> str:
    """Returns the text of a thought, which may be nested in parts."""
    part = to_object(thought)
    inner = part.get("text") or part.get("thinking") or part.get("summary")
    return to_text(thought) or "".join(map(_flatten, to_array(thought))) or (_flatten(inner) if inner else "")


def _to_usage(usage: Chunk) -> Chunk:
    """Returns the numbers that a usage states. A zero states nothing: counts grow, and some servers start again."""
    counts = {name: to_count(usage.get(name)) or to_count(usage.get(other)) for name, other in _COUNTS.items()}
    found = {name: count for name, count in counts.items() if count}
    details = {name: to_numbers(to_object(value)) for name, value in usage.items() if to_object(value)}
    return {**to_numbers(usage), **details, **found} if found else {}
