"""Writes texts, parted into steps. A step is an answer of the model, with its tool calls."""

from collections.abc import Iterator
from typing import Any

from pydantic_core import to_json

_END = b"}\n\n"


class Steps:
    def __init__(self) -> None:
        self.has_calls = False
        """Tells whether the step under way has tool calls, after which no text belongs to it."""
        self._first: int | None = None
        """Holds the number of the first part of the step under way."""
        self._text: tuple[str, int] | None = None
        """Holds the kind and the number of the part whose text is under way."""
        self._delta = b""

    def say(self, kind: str, part: int, text: str) -> bytes:
        """Returns a piece of a text, after what begins that."""
        delta = self._delta + to_json(text) + _END
        if self._text == (kind, part):
            return delta
        begun = [*self.enter(part), to_event({"type": f"{kind}-start", "id": str(part)})]
        self._text = (kind, part)
        self._delta = to_event({"type": f"{kind}-delta", "id": str(part), "delta": ""}).removesuffix(b'""' + _END)
        return b"".join([*begun, self._delta, to_json(text), _END])

    def enter(self, part: int, *, with_call: bool = False) -> Iterator[bytes]:
        """Ends the text under way, and begins a step where one is due."""
        yield from self._end_text()
        if self.has_calls and not with_call:
            yield from self.leave()
        if self._first is None:
            self._first = part
            yield to_event({"type": "start-step"})
        self.has_calls |= with_call

    def leave(self) -> Iterator[bytes]:
        yield from self._end_text()
        if self._first is not None:
            self._first, self.has_calls = None, False
            yield to_event({"type": "finish-step"})

    def take_back(self, part: int) -> bytes | None:
        """Takes back the step that begins with a part; None if that is not the one under way."""
        if part != self._first or self.has_calls:
            return None
        self._text = None
        return to_event({"type": "reset-step"})

    def _end_text(self) -> Iterator[bytes]:
        if self._text is not None:
            kind, part = self._text
            self._text = None
            yield to_event({"type": f"{kind}-end", "id": str(part)})


def to_event(chunk: dict[str, Any]) -> bytes:
    """Returns a chunk as an event. pydantic-ai has classes for most, but its import takes a second and 80 MB."""
    return b"data: " + to_json(chunk) + b"\n\n"
