"""What the rest of the application knows of language models that use tools."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from app.services.ai import Answer


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that a model may call. `input_schema` is the JSON schema of its arguments, an object."""

    name: str
    description: str
    input_schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is the text that the model wrote: JSON, unless it made a mistake."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person said."""

    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What a model said and the tools that it called, each of which is owed a `Returned` before the model goes on.

    `raw` is its message as its own provider wants it back. `code` says why it stopped early although it is an answer.
    """

    text: str
    calls: Sequence[ToolCall]
    raw: str | None
    code: str | None


@dataclass(frozen=True, slots=True)
class Returned:
    """What a tool returned, or a sentence that says why it did not."""

    call_id: str
    name: str
    content: str


Entry = Asked | Answered | Returned
NOTHING = Answered("", (), None, None)


@dataclass(frozen=True, slots=True)
class Prompt:
    """`model` is one of AgentAI's. `entries` begin with what was asked and end with what was asked or returned."""

    model: str
    instructions: str
    temperature: float
    entries: Sequence[Entry]
    tools: Sequence[ToolSpec]


class Step(Answer, Protocol):
    """One answer of a model, with the calls it makes."""

    @property
    def answered(self) -> Answered:
        """Known at the end; before, it is NOTHING."""
        ...


class AgentModel(Protocol):
    """One model, asked once. An empty piece of its step is a sign of life."""

    def ask(self, prompt: Prompt) -> Step: ...


class AgentAI(Protocol):
    """The models that may be asked."""

    @property
    def models(self) -> Sequence[str]:
        """Their names. The first is the one for whoever names none."""
        ...

    def check(self, model: str) -> None:
        """Raises Invalid when it may not be asked."""
        ...

    def ask(self, prompt: Prompt) -> AbstractAsyncContextManager[Step]:
        """Leaving the context stops the model."""
        ...


def texts(prompt: Prompt) -> Iterator[str]:
    """All that the model reads."""
    yield prompt.instructions
    for tool in prompt.tools:
        yield from (tool.name, tool.description, json.dumps(tool.input_schema))
    for entry in prompt.entries:
        match entry:
            case Asked(text):
                yield text
            case Answered(text, calls):
                yield text
                for call in calls:
                    yield from (call.name, call.arguments)
            case Returned(name=name, content=content):
                yield from (name, content)
