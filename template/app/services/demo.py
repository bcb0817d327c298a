"""The offline model: the same words for the same question, with no network, no key and no library."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from app.services.ai import Line

QUOTED_CHARACTERS = 200

_REPLY = (
    "You said: “{question}”. I am the demo model: I run offline, need no key and can only repeat your words. "
    "To talk to a real model, set AI_MODEL and the key of its provider in .env, then start again."
)


class DemoAI:
    """Streams a word at a time, `delay` seconds apart."""

    def __init__(self, delay: float) -> None:
        self._delay = delay

    async def stream(self, lines: Sequence[Line]) -> AsyncGenerator[str]:
        first, *rest = _REPLY.format(question=_shortened(lines[-1].text)).split(" ")
        yield first
        for word in rest:
            await asyncio.sleep(self._delay)
            yield f" {word}"


def _shortened(question: str) -> str:
    question = " ".join(question.split())
    return question if len(question) <= QUOTED_CHARACTERS else f"{question[:QUOTED_CHARACTERS]} …"
