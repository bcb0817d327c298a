"""The demo model with tools: deterministic, one call a request, every tool once."""

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal

import pytest

from app.services.agent_ai import NOTHING, Answered, Asked, Entry, Prompt, Returned, ToolSpec
from app.services.ai import Spent
from app.services.demo import QUOTED_CHARACTERS
from app.services.demo_agent import DemoAgent

QUESTION = "What is the weather?"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [ToolSpec("now", "Tells the time.", {"type": "object", "properties": {}}), ToolSpec("weather", "Knows.", CITY)]


def prompt(*entries: Entry, tools: Sequence[ToolSpec] = TOOLS) -> Prompt:
    return Prompt("demo", "Be kind.", 0.7, entries, tools)


async def ask(*entries: Entry, tools: Sequence[ToolSpec] = TOOLS) -> tuple[list[str], Answered]:
    step = DemoAgent(0).ask(prompt(*entries, tools=tools))
    return [piece async for piece in step if piece], step.answered


async def converse(*entries: Entry) -> Sequence[Entry]:
    """Until it calls no more; each tool returns its name."""
    said = list(entries)
    for _ in range(9):
        _, answered = await ask(*said)
        said.append(answered)
        if not answered.calls:
            return said
        said += [Returned(call.id, call.name, f"the {call.name}") for call in answered.calls]
    raise AssertionError("it calls again and again")


def calls(entries: Sequence[Entry]) -> list[tuple[str, str, str]]:
    return [(c.id, c.name, c.arguments) for entry in entries if isinstance(entry, Answered) for c in entry.calls]


async def test_it_calls_each_tool_once_and_then_tells_what_they_returned() -> None:
    said = await converse(Asked(QUESTION))
    assert calls(said) == [("call00001", "now", "{}"), ("call00002", "weather", json.dumps({"city": QUESTION}))]
    last = said[-1]
    assert isinstance(last, Answered)
    assert f"“{QUESTION}”" in last.text
    assert "now returned: “the now”. weather returned: “the weather”." in last.text
    assert len(last.text.split()) >= 20


async def test_it_begins_again_with_another_question_and_no_id_comes_twice() -> None:
    first = await converse(Asked(QUESTION))
    second = await converse(*first, Asked("And now?"))
    assert calls(second)[2:] == [("call00003", "now", "{}"), ("call00004", "weather", '{"city": "And now?"}')]
    last = second[-1]
    assert isinstance(last, Answered)
    assert "And now?" in last.text
    assert QUESTION not in last.text


async def test_without_tools_it_answers_a_word_at_a_time_and_the_same_each_time() -> None:
    pieces, answered = await ask(Asked("?"), tools=[])
    assert all(len(piece.split()) == 1 for piece in pieces)
    assert answered == Answered("".join(pieces), [], None, None)
    assert len(pieces) >= 20
    assert await ask(Asked("?"), tools=[]) == (pieces, answered)


async def test_what_is_long_is_shortened_where_it_is_quoted() -> None:
    long = "x" * 10_000
    _, answered = await ask(Asked(long), Answered("", [], None, None), Returned("1", "now", long), tools=[])
    assert answered.text.count("x" * QUOTED_CHARACTERS + " …") == 2
    assert "x" * (QUOTED_CHARACTERS + 1) not in answered.text


async def test_a_call_is_a_word_that_takes_its_time() -> None:
    step = DemoAgent(delay=60).ask(prompt(Asked(QUESTION)))
    pieces = aiter(step)
    assert step.spent == Spent("demo", 0, 0, Decimal(0))
    assert await anext(pieces) == ""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(pieces)
    assert step.answered == NOTHING
    assert step.spent == Spent("demo", 24, 2, Decimal(0))
