"""The offline model with tools: it calls each of them once, in their order, and then tells what they returned."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal

from app.services.agent_ai import NOTHING, Answered, Asked, Entry, Prompt, Returned, Step, ToolCall, ToolSpec, texts
from app.services.ai import Spent
from app.services.demo import DEMO, shortened
from app.services.demo_arguments import arguments

_REPLY = (
    "You asked: “{question}”. {returned}I am the demo model: I run offline, need no key, call each tool once and can "
    "only repeat what I was told. To have your tools used with thought, set AI_MODEL and the key of its provider."
)


class DemoAgent:
    """Says a word at a time, `delay` seconds apart, and a call is like one. Its words are its tokens, and free."""

    def __init__(self, delay: float) -> None:
        self._delay = delay

    def ask(self, prompt: Prompt) -> Step:
        return _DemoStep(prompt, self._delay)


class _DemoStep:
    code: str | None = None

    def __init__(self, prompt: Prompt, delay: float) -> None:
        self.answered = NOTHING
        self._prompt = prompt
        self._delay = delay
        self._said = 0

    @property
    def spent(self) -> Spent:
        heard = sum(len(text.split()) for text in texts(self._prompt)) if self._said else 0
        return Spent(DEMO, heard, self._said, Decimal(0))

    def __aiter__(self) -> AsyncGenerator[str]:
        question, since = _newest(self._prompt.entries)
        called = {call.name for entry in since if isinstance(entry, Answered) for call in entry.calls}
        tool = next((tool for tool in self._prompt.tools if tool.name not in called), None)
        return self._call(tool, question) if tool else self._reply(question, since)

    async def _call(self, tool: ToolSpec, question: str) -> AsyncGenerator[str]:
        call = ToolCall(self._next_id(), tool.name, json.dumps(arguments(tool.input_schema, question)))
        self._said = len(call.arguments.split()) + 1
        yield ""
        await asyncio.sleep(self._delay)
        self.answered = Answered("", [call], None, None)

    async def _reply(self, question: str, since: Sequence[Entry]) -> AsyncGenerator[str]:
        results = [entry for entry in since if isinstance(entry, Returned)]
        returned = "".join(f"{result.name} returned: “{shortened(result.content)}”. " for result in results)
        text = _REPLY.format(question=shortened(question), returned=returned)
        for number, word in enumerate(text.split(" ")):
            if number:
                await asyncio.sleep(self._delay)
            self._said += 1
            yield f" {word}" if number else word
        self.answered = Answered(text, [], None, None)

    def _next_id(self) -> str:
        """Unlike any before it, in the form of the pickiest provider, which may be the one that goes on."""
        before = sum(len(entry.calls) for entry in self._prompt.entries if isinstance(entry, Answered))
        return f"call{before + 1:05}"


def _newest(entries: Sequence[Entry]) -> tuple[str, Sequence[Entry]]:
    """The newest question, and what came after it."""
    number, text = [(number, entry.text) for number, entry in enumerate(entries) if isinstance(entry, Asked)][-1]
    return text, entries[number + 1 :]
