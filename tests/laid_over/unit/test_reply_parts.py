"""Tests how events of an execution become the parts of a reply."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from app.services.agents.reply_parts import RESULTS_CHARACTERS, SHORT_CHARACTERS, ReplyParts

LONG = "x" * 20_000


def steps(number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the events of a reply that calls a tool in each step, whose results are long."""
    for step in range(number):
        call = {"tool_call_id": f"call_{step}", "name": "read", "arguments": "{}"}
        yield "model.started", {"model": "demo", "attempt": 1}
        yield "model.completed", {"model": "demo", "text": "", "calls": [call]}
        yield "tool.returned", {"tool_call_id": f"call_{step}", "name": "read", "content": LONG}


@pytest.mark.parametrize(
    ("number", "kept"), [(5, len(LONG)), (50, SHORT_CHARACTERS + len("\n[The rest is left out.]"))]
)
def test_a_message_lists_no_more_than_so_many_characters_of_results(number: int, kept: int) -> None:
    parts = ReplyParts(uuid4(), steps(number))
    parts.close()
    assert {len(part["result"]) for part in parts.parts} == {kept}
    assert sum(len(part["result"]) for part in parts.parts) <= RESULTS_CHARACTERS


def test_places_only_grow() -> None:
    parts = ReplyParts(uuid4())
    places = [happened.place for type, data in steps(3) for happened in parts.add(type, data)]
    assert places == sorted(set(places))
