import subprocess
import sys
from decimal import Decimal

import pytest

from app.services.ai import Line, Spent
from app.services.demo import QUOTED_CHARACTERS, DemoModel
from tests.conftest import ROOT, environment


async def reply(*lines: Line) -> list[str]:
    return [piece async for piece in DemoModel(delay=0).answer(lines)]


async def answer(question: str) -> str:
    return "".join(await reply(Line("user", question)))


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
    pieces = await reply(Line("user", "one two"))
    assert all(len(piece.split()) == 1 for piece in pieces)


async def test_the_newest_line_is_answered() -> None:
    text = "".join(await reply(Line("user", "first"), Line("assistant", "yes"), Line("user", "second")))
    assert "second" in text
    assert "first" not in text


async def test_a_long_question_is_shortened() -> None:
    text = await answer("x" * 10_000)
    assert "x" * QUOTED_CHARACTERS + " …" in text
    assert "x" * (QUOTED_CHARACTERS + 1) not in text


async def test_white_space_is_quoted_as_one_space() -> None:
    assert "“a b c”" in await answer("  a\n\nb\tc ")


async def test_its_words_are_its_tokens_and_they_are_free() -> None:
    answer = DemoModel(delay=0).answer([Line("user", "one two"), Line("assistant", "three"), Line("user", "four five")])
    assert answer.spent == Spent("demo", 0, 0, Decimal(0))
    pieces = aiter(answer)
    await anext(pieces)
    assert answer.spent == Spent("demo", 5, 1, Decimal(0))
    rest = [piece async for piece in pieces]
    assert answer.spent == Spent("demo", 5, 1 + len(rest), Decimal(0))


def test_the_demo_needs_no_library_of_a_provider() -> None:
    code = """
import asyncio, sys
from app.core.config import Settings, read_settings
from app.services.ai_model import open_ai

async def main():
    async with open_ai(read_settings(Settings)):
        print("pydantic_ai" in sys.modules)

asyncio.run(main())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
