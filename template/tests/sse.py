"""Reads server-sent events as a client does."""

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass(frozen=True)
class Event:
    type: str
    id: Any
    data: dict[str, Any]


def _id(text: str) -> int | str:
    """Returns the id of an event: a number, or the place in a reply that an agent writes."""
    return int(text) if text.isdigit() else text


def parse(lines: Iterable[str]) -> Event:
    fields = dict(line.split(": ", 1) for line in lines)
    return Event(fields["event"], _id(fields["id"]), json.loads(fields["data"]))


def parse_all(text: str) -> list[Event]:
    """Leaves comments out, as a client does."""
    blocks = [block.split("\n") for block in text.split("\n\n") if block and not block.startswith(":")]
    return [parse(block) for block in blocks]


async def arriving(response: httpx2.Response) -> AsyncIterator[Event]:
    """Yields the events of a stream that is still open."""
    lines: list[str] = []
    async for line in response.aiter_lines():
        if line and not line.startswith(":"):
            lines.append(line)
        elif lines:
            yield parse(lines)
            lines = []
