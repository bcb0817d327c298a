"""Reads chunks of Chat Completions in the forms in which servers send them, and returns them in OpenAI's."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.services.ai.json_values import to_array, to_object, to_text
from app.services.ai.thinking_tags import ThinkingTags
from app.services.ai.tool_call_reader import ToolCallReader

Chunk = Mapping[str, Any]

UNSTATED = "unstated"
"""Replaces the finish reason of an answer that is known to be whole although its server gave no reason."""
_COUNTS = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
"""Maps the counts of usage to the names that some servers use instead."""
_MAX_COUNT = 10**12
_TEXTS = ("reasoning", "reasoning_content", "refusal")


class ChunkReader:
    """Reads the chunks of one answer. At its end come its finish reason and its usage, of which the last ones count."""

    def __init__(self) -> None:
        self._tags = ThinkingTags()
        self._calls = ToolCallReader()
        self._usage: dict[str, Any] = {}
        self._is_usage_final = False
        self._finish_reason: str | None = None
        self._head: Chunk = {}
        self._has_delta = False

    def read(self, chunk: Chunk) -> Iterator[Chunk]:
        self._head = _to_head(chunk)
        choices = [*filter(None, map(to_object, to_array(chunk.get("choices"))))]
        self._add_usage(chunk.get("usage"), is_final=not choices)
        if not choices:
            yield {**self._head, "choices": [], "usage": None}
        for choice in choices:
            if choice.get("index") in (0, None):
                self._finish_reason = to_text(choice.get("finish_reason")) or self._finish_reason
                yield from map(self._to_chunk, self._read_delta(self._get_delta(choice)))

    def end(self, *, is_done: bool) -> Iterator[Chunk]:
        """Yields what is left. `is_done` tells whether the server said that the answer is whole."""
        if not self._head:
            return
        yield from map(self._to_chunk, map(_to_delta, self._tags.end()))
        yield from (self._to_chunk({"tool_calls": [piece]}) for piece in self._calls.end())
        yield self._to_chunk({}, self._finish_reason or (UNSTATED if is_done or self._is_usage_final else None))
        if self._usage:
            counts = {name: self._usage.get(name, 0) for name in _COUNTS}
            yield {
                **self._head,
                "choices": [],
                "usage": {**self._usage, **counts, "total_tokens": sum(counts.values())},
            }

    def _to_chunk(self, delta: Chunk, finish_reason: str | None = None) -> Chunk:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**self._head, "choices": [choice], "usage": None}

    def _get_delta(self, choice: Chunk) -> Chunk:
        """Returns what the choice adds. A server that does not stream puts all into `message`; others repeat it."""
        delta = to_object(choice.get("delta") or (None if self._has_delta else choice.get("message")))
        self._has_delta |= bool(delta)
        return delta

    def _read_delta(self, delta: Chunk) -> Iterator[Chunk]:
        """Yields the parts of a delta one by one, so that they keep their order."""
        content = delta.get("content")
        rest = {name: value for name, value in delta.items() if name not in ("content", "tool_calls", *_TEXTS)}
        rest |= {name: delta[name] for name in _TEXTS if isinstance(delta.get(name), str)}
        if isinstance(content, list):
            rest["content"] = content
        if rest:
            yield rest
        if isinstance(content, str):
            yield from map(_to_delta, self._tags.read(content))
        yield from ({"tool_calls": [piece]} for piece in self._calls.read(delta.get("tool_calls")))

    def _add_usage(self, usage: Any, *, is_final: bool) -> None:
        if usage and (counted := _to_usage(to_object(usage))):
            self._usage |= counted
            self._is_usage_final |= is_final


def _to_head(chunk: Chunk) -> Chunk:
    """Returns the fields that all chunks of an answer have, without values of a type that the client cannot read."""
    head = {name: value for name, value in chunk.items() if name not in ("choices", "usage")}
    for name, kind, default in (("id", str, ""), ("model", str, ""), ("created", (int, float), 0)):
        if not isinstance(head.get(name), kind):
            head[name] = default
    return head


def _to_delta(marked: tuple[str, bool]) -> Chunk:
    piece, is_thought = marked
    return {"reasoning_content" if is_thought else "content": piece}


def _to_usage(usage: Chunk) -> Chunk:
    """Returns the numbers that a usage states. A zero states nothing: counts grow, and some servers start again."""
    counts = {name: _to_count(usage.get(name)) or _to_count(usage.get(other)) for name, other in _COUNTS.items()}
    found = {name: count for name, count in counts.items() if count}
    details = {name: _to_numbers(value) for name, value in usage.items() if to_object(value)}
    return {**_to_numbers(usage), **details, **found} if found else {}


def _to_numbers(values: Chunk) -> Chunk:
    return {name: value for name, value in values.items() if isinstance(value, (int, float))}


def _to_count(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and 0 < value < _MAX_COUNT else 0
