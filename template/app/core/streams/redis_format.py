"""A log in Redis: one string, with what it ended with behind its text. What is added to it is published, too."""

from typing import Any

AGAIN_SECONDS = 1.0
"""After a failure of Redis."""
BREAK = b"\xff"
"""Stands before and after what a log ended with; it occurs in no UTF-8."""
ANEW = b""
"""Published in place of a piece: read all of it."""

Client = Any
"""Of redis-py, whose own types are incomplete."""


def encoded(text: str, end: str | None) -> bytes:
    return text.encode() if end is None else text.encode() + BREAK + end.encode() + BREAK


def decoded(data: bytes) -> tuple[str, str | None]:
    """What stands behind an end is of no account: a process wrote it that was taken for dead."""
    text, *rest = data.split(BREAK)
    return text.decode(), rest[0].decode() if len(rest) > 1 else None
