"""Encodes a stream for Redis: one string, with its end after its text. What is appended is published, too."""

from typing import Any

AGAIN_SECONDS = 1.0
"""Delays the next try after a failure of Redis."""
BREAK = b"\xff"
"""Stands before and after the end of a stream; it occurs in no UTF-8."""
ANEW = b""
"""Tells readers, in place of a piece of text, to read the whole text again."""

Client = Any
"""Stands for the client of redis-py, whose own types are incomplete."""


def encode(text: str, end: str | None) -> bytes:
    return text.encode() if end is None else text.encode() + BREAK + end.encode() + BREAK


def decode(data: bytes) -> tuple[str, str | None]:
    """Decodes a text and its end. Ignores what follows it, which was written by a process that was taken for dead."""
    text, *rest = data.split(BREAK)
    return text.decode(), rest[0].decode() if len(rest) > 1 else None
