"""Tests the demo model: it is deterministic, streams a word at a time, and calls each tool once."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from app.core.sampling import Sampling
from app.services.ai import (
    AssistantMessage,
    ChatMessage,
    Image,
    ModelUsage,
    Prompt,
    Reasoning,
    ReasoningEffort,
    ToolCall,
    ToolResult,
    ToolSpec,
    UserMessage,
)
from app.services.ai.demo import QUOTED_CHARACTERS, DemoModel
from tests.conftest import ROOT, environment

QUESTION = "What is the weather?"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [ToolSpec("now", "Tells the time.", {"type": "object", "properties": {}}), ToolSpec("weather", "Knows.", CITY)]


async def reply(*messages: ChatMessage) -> list[str]:
    return (await ask(*messages, tools=[]))[0]


async def answer(question: str) -> str:
    return "".join(await reply(UserMessage(question)))


async def ask(*messages: ChatMessage, tools: Sequence[ToolSpec] = TOOLS) -> tuple[list[str], AssistantMessage]:
    stream = DemoModel(delay=0).ask(Prompt(messages, "Be kind.", tools=tools))
    return [str(piece) async for piece in stream if piece], stream.message


async def converse(*messages: ChatMessage) -> Sequence[ChatMessage]:
    """Asks until the model calls no more tools; each tool returns its name."""
    said = list(messages)
    for _ in range(9):
        _, message = await ask(*said)
        said.append(message)
        if not message.tool_calls:
            return said
        said += [ToolResult(call.id, call.name, f"the {call.name}") for call in message.tool_calls]
    raise AssertionError("the model never stops calling tools")


def calls(messages: Sequence[ChatMessage]) -> list[tuple[str, str, str]]:
    made = [call for message in messages if isinstance(message, AssistantMessage) for call in message.tool_calls]
    return [(call.id, call.name, call.arguments) for call in made]


@pytest.mark.parametrize("question", ["?", "Wie geht's?", "What is {question} or {0}, 100%?", "🦜 " * 99])
async def test_the_reply_quotes_the_question_in_at_least_20_words(question: str) -> None:
    text = await answer(question)
    assert question.strip() in text
    assert len(text.split()) >= 20


async def test_the_reply_says_that_it_is_the_demo_and_how_to_set_a_real_model() -> None:
    text = await answer("Who are you?")
    assert "demo" in text
    assert "AI_MODEL" in text


async def test_the_same_question_gets_the_same_words() -> None:
    assert await answer("Again?") == await answer("Again?")


async def test_it_comes_a_word_at_a_time() -> None:
    pieces = await reply(UserMessage("one two"))
    assert all(len(piece.split()) == 1 for piece in pieces)


async def test_the_newest_line_is_answered() -> None:
    text = "".join(await reply(UserMessage("first"), AssistantMessage("yes"), UserMessage("second")))
    assert "second" in text
    assert "first" not in text


async def test_a_long_question_is_shortened() -> None:
    text = await answer("x" * 10_000)
    assert "x" * QUOTED_CHARACTERS + " …" in text
    assert "x" * (QUOTED_CHARACTERS + 1) not in text


async def test_white_space_is_quoted_as_one_space() -> None:
    assert "“a b c”" in await answer("  a\n\nb\tc ")


async def test_its_words_are_its_tokens_and_they_are_free() -> None:
    messages = [UserMessage("one two"), AssistantMessage("three"), UserMessage("four five")]
    stream = DemoModel(delay=0).ask(Prompt(messages, "Be kind."))
    assert stream.usage == ModelUsage("demo", 0, 0, Decimal(0))
    pieces = aiter(stream)
    await anext(pieces)
    assert stream.usage == ModelUsage("demo", 7, 1, Decimal(0))
    rest = [piece async for piece in pieces]
    assert stream.usage == ModelUsage("demo", 7, 1 + len(rest), Decimal(0))


async def test_it_calls_each_tool_once_and_then_tells_what_they_returned() -> None:
    said = await converse(UserMessage(QUESTION))
    assert calls(said) == [("call00001", "now", "{}"), ("call00002", "weather", json.dumps({"city": QUESTION}))]
    last = said[-1]
    assert isinstance(last, AssistantMessage)
    assert f"“{QUESTION}”" in last.text
    assert "now returned: “the now”. weather returned: “the weather”." in last.text
    assert len(last.text.split()) >= 20


async def test_it_begins_again_with_another_question_and_no_id_comes_twice() -> None:
    first = await converse(UserMessage(QUESTION))
    second = await converse(*first, UserMessage("And now?"))
    assert calls(second)[2:] == [("call00003", "now", "{}"), ("call00004", "weather", '{"city": "And now?"}')]
    last = second[-1]
    assert isinstance(last, AssistantMessage)
    assert "And now?" in last.text
    assert QUESTION not in last.text


async def test_without_tools_it_answers_a_word_at_a_time_and_the_same_each_time() -> None:
    pieces, message = await ask(UserMessage("?"), tools=[])
    assert all(len(piece.split()) == 1 for piece in pieces)
    assert message == AssistantMessage("".join(pieces))
    assert len(pieces) >= 20
    assert await ask(UserMessage("?"), tools=[]) == (pieces, message)


@pytest.mark.parametrize(("effort", "reasons"), [(None, False), ("none", False), ("minimal", True), ("max", True)])
async def test_with_an_effort_a_sentence_of_reasoning_comes_before_the_answer(
    effort: ReasoningEffort | None, reasons: bool
) -> None:
    stream = DemoModel(delay=0).ask(Prompt([UserMessage("Why?")], reasoning_effort=effort))
    pieces = [piece async for piece in stream]
    shown = [piece for piece in pieces if isinstance(piece, Reasoning)]
    assert pieces[: len(shown)] == shown
    assert "".join(piece.text for piece in shown) == stream.message.reasoning
    assert ("“Why?”" in stream.message.reasoning) == reasons
    assert "".join(map(str, pieces[len(shown) :])) == stream.message.text
    assert stream.usage.output_tokens == len(pieces)


async def test_with_a_schema_it_answers_in_json_after_its_tools() -> None:
    prompt = Prompt([UserMessage("In  Rome?")], tools=TOOLS[:1], output_schema=CITY)
    called, stream = DemoModel(delay=0).ask(prompt), DemoModel(delay=0).ask(replace(prompt, tools=()))
    assert [piece async for piece in called] == [""]
    pieces = [str(piece) async for piece in stream]
    assert json.loads("".join(pieces)) == {"city": "In  Rome?"}
    assert stream.message.text == "".join(pieces)


async def test_what_is_long_is_shortened_where_it_is_quoted() -> None:
    long, called = "x" * 10_000, AssistantMessage(tool_calls=[ToolCall("1", "now", "{}")])
    _, message = await ask(UserMessage(long), called, ToolResult("1", "now", long), tools=TOOLS[:1])
    assert message.text.count("x" * QUOTED_CHARACTERS + " …") == 2
    assert "x" * (QUOTED_CHARACTERS + 1) not in message.text


async def test_a_call_is_a_word_that_takes_its_time() -> None:
    stream = DemoModel(delay=60).ask(Prompt([UserMessage(QUESTION)], "Be kind.", tools=TOOLS))
    pieces = aiter(stream)
    assert stream.usage == ModelUsage("demo", 0, 0, Decimal(0))
    assert await anext(pieces) == ""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(pieces)
    assert stream.message == AssistantMessage()
    assert stream.usage == ModelUsage("demo", 24, 2, Decimal(0))


def test_the_demo_needs_no_library_of_a_provider() -> None:
    code = """
import asyncio, sys
from app.core.config import Settings, read_settings
from app.services.ai.registry import open_gateway

async def main():
    async with open_gateway(read_settings(Settings)):
        print("pydantic_ai" in sys.modules)

asyncio.run(main())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


LIMITS: Sequence[tuple[Mapping[str, Any], str, str, str | None]] = [
    ({"max_output_tokens": 2}, "", "You said:", "length"),
    ({"max_output_tokens": 2, "reasoning_effort": "high"}, "The question", "", "length"),
    ({"sampling": Sampling(stop=("never", " said"))}, "", "You", None),
    ({"sampling": Sampling(stop=("You",))}, "", "", None),
]


@pytest.mark.parametrize(("asked", "reasoning", "text", "code"), LIMITS)
async def test_an_answer_ends_where_the_prompt_says(
    asked: Mapping[str, Any], reasoning: str, text: str, code: str | None
) -> None:
    stream = DemoModel(delay=0).ask(Prompt([UserMessage(QUESTION)], **asked))
    pieces = [piece async for piece in stream]
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == text
    assert "".join(piece.text for piece in pieces if isinstance(piece, Reasoning)) == reasoning
    assert stream.message == AssistantMessage(text, code=code, reasoning=reasoning)
    assert stream.usage.output_tokens == len(pieces)


@pytest.mark.parametrize(
    ("choice", "called"), [("auto", ["now"]), ("required", ["now"]), ("none", []), ("weather", ["weather"])]
)
async def test_the_prompt_chooses_the_tool(choice: str, called: Sequence[str]) -> None:
    stream = DemoModel(delay=0).ask(Prompt([UserMessage(QUESTION)], tools=TOOLS, tool_choice=choice))
    assert [piece async for piece in stream]
    assert [call.name for call in stream.message.tool_calls] == called


async def test_pictures_are_named() -> None:
    assert "I got a picture (image/gif)." in "".join(await reply(UserMessage(QUESTION, [Image("image/gif", b"GIF")])))
