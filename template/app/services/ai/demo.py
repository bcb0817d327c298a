"""Provides the offline model: the same answer to the same prompt, with no network, no key and no library."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal

from app.services.ai.base import (
    AssistantMessage,
    ChatMessage,
    ModelStream,
    ModelUsage,
    Piece,
    Prompt,
    Reasoning,
    ToolCall,
    ToolResult,
    ToolSpec,
    UserMessage,
)
from app.services.ai.demo_arguments import write_arguments

DEMO = "demo"
QUOTED_CHARACTERS = 200

_REPLY = (
    "You said: “{question}”. {pictures}I am the demo model: I run offline, need no key and can only repeat your words. "
    "To talk to a real model, set AI_MODEL and the key of its provider in .env, then start again."
)
_REPLY_WITH_TOOLS = (
    "You asked: “{question}”. {pictures}{returned}I am the demo model: I run offline, need no key, call each tool "
    "once and can only repeat what I was told. To have your tools used with thought, set AI_MODEL and the key of its "
    "provider."
)
_REASONING = "The question is “{question}”, and I can only repeat words, so I do that."


class DemoModel:
    """Calls each tool once, in their order, then says what they returned, a word every `delay` seconds.

    Each word counts as a token, and costs nothing. With an effort, a sentence of reasoning comes before the answer.
    With an output schema, the answer is the least JSON that the schema allows. Of pictures it says that they came.
    """

    name = DEMO
    has_own_retries = False

    def __init__(self, delay: float) -> None:
        self._delay = delay

    def ask(self, prompt: Prompt) -> ModelStream:
        return _DemoStream(prompt, self._delay)


class _DemoStream:
    def __init__(self, prompt: Prompt, delay: float) -> None:
        self.message = AssistantMessage()
        self._prompt = prompt
        self._delay = delay
        self._output_tokens = 0

    @property
    def usage(self) -> ModelUsage:
        input_tokens = sum(len(text.split()) for text in self._prompt.texts()) if self._output_tokens else 0
        return ModelUsage(DEMO, input_tokens, self._output_tokens, Decimal(0))

    def __aiter__(self) -> AsyncGenerator[Piece]:
        question, since = _newest_question(self._prompt.messages)
        called = {call.name for call in _tool_calls(since)}
        tool = next((tool for tool in self._choose_tools() if tool.name not in called), None)
        return self._call(tool, question) if tool else self._reply(question, since)

    def _choose_tools(self) -> Sequence[ToolSpec]:
        match self._prompt.tool_choice:
            case "auto" | "required":
                return self._prompt.tools
            case name:
                return [tool for tool in self._prompt.tools if tool.name == name]

    async def _call(self, tool: ToolSpec, question: str) -> AsyncGenerator[Piece]:
        call = ToolCall(self._next_id(), tool.name, json.dumps(write_arguments(tool.input_schema, question)))
        self._output_tokens = len(call.arguments.split()) + 1
        yield ""
        await asyncio.sleep(self._delay)
        self.message = AssistantMessage(tool_calls=[call])

    async def _reply(self, question: str, since: Sequence[ChatMessage]) -> AsyncGenerator[Piece]:
        reasons = self._prompt.reasoning_effort not in (None, "none")
        reasoning = _REASONING.format(question=_shorten(question)) if reasons else ""
        text = self._write_answer(question, since)
        words: list[Piece] = [*map(Reasoning, _split(reasoning)), *_split(text)]
        most = self._prompt.max_output_tokens or len(words)
        for number, word in enumerate(words[:most]):
            if number:
                await asyncio.sleep(self._delay)
            self._output_tokens += 1
            yield word
        said = "".join(word for word in words[:most] if isinstance(word, str))
        reasoning = "".join(word.text for word in words[:most] if isinstance(word, Reasoning))
        self.message = AssistantMessage(said, code="length" if most < len(words) else None, reasoning=reasoning)

    def _write_answer(self, question: str, since: Sequence[ChatMessage]) -> str:
        if self._prompt.output_schema is not None:
            return json.dumps(write_arguments(self._prompt.output_schema, question), ensure_ascii=False)
        results = [message for message in since if isinstance(message, ToolResult)]
        returned = "".join(f"{result.name} returned: “{_shorten(result.content)}”. " for result in results)
        template = _REPLY_WITH_TOOLS if self._prompt.tools else _REPLY
        pictures = "".join(f"I got a picture ({image.media_type}). " for image in self._prompt.pictures)
        text = template.format(question=_shorten(question), pictures=pictures, returned=returned)
        for stop in self._prompt.sampling.stop:
            text = text.partition(stop)[0]
        return text

    def _next_id(self) -> str:
        """Returns a new id in the form of the strictest provider, Mistral, which may go on as a fallback."""
        return f"call{len(_tool_calls(self._prompt.messages)) + 1:05}"


def _tool_calls(messages: Sequence[ChatMessage]) -> Sequence[ToolCall]:
    return [call for message in messages if isinstance(message, AssistantMessage) for call in message.tool_calls]


def _newest_question(messages: Sequence[ChatMessage]) -> tuple[str, Sequence[ChatMessage]]:
    """Returns the user's newest message, and the messages after it."""
    number, text = [(number, item.text) for number, item in enumerate(messages) if isinstance(item, UserMessage)][-1]
    return text, messages[number + 1 :]


def _split(text: str) -> Sequence[str]:
    """Returns the words, each but the first with the space before it."""
    first, *rest = text.split(" ")
    return [*filter(None, [first]), *(f" {word}" for word in rest)]


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= QUOTED_CHARACTERS else f"{text[:QUOTED_CHARACTERS]} …"
