"""The offline model: the same words for the same question, with no network, no key and no library."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal

from app.services.ai import Answer, Line, Spent

DEMO = "demo"
QUOTED_CHARACTERS = 200

_REPLY = (
    "You said: “{question}”. I am the demo model: I run offline, need no key and can only repeat your words. "
    "To talk to a real model, set AI_MODEL and the key of its provider in .env, then start again."
)


class DemoModel:
    """Says a word at a time, `delay` seconds apart. Its words are its tokens, and they are free."""

    name = DEMO
    tries_by_itself = False

    def __init__(self, delay: float) -> None:
        self.delay = delay

    def answer(self, lines: Sequence[Line]) -> Answer:
        return _DemoAnswer(lines, self.delay)


class _DemoAnswer:
    code: str | None = None

    def __init__(self, lines: Sequence[Line], delay: float) -> None:
        self._lines = lines
        self._delay = delay
        self._said = 0

    @property
    def spent(self) -> Spent:
        heard = sum(len(line.text.split()) for line in self._lines) if self._said else 0
        return Spent(DEMO, heard, self._said, Decimal(0))

    async def __aiter__(self) -> AsyncGenerator[str]:
        first, *rest = _REPLY.format(question=shortened(self._lines[-1].text)).split(" ")
        self._said = 1
        yield first
        for word in rest:
            await asyncio.sleep(self._delay)
            self._said += 1
            yield f" {word}"


def shortened(question: str) -> str:
    question = " ".join(question.split())
    return question if len(question) <= QUOTED_CHARACTERS else f"{question[:QUOTED_CHARACTERS]} …"
