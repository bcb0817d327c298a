"""Defines prompts, messages and streams of language models, independent of providers."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from app.core.reasoning import ReasoningEffort
from app.core.sampling import Sampling, ToolChoice

BYTES_PER_TOKEN = 4
TOKENS_PER_PICTURE = 2_800
"""Estimates what a picture costs, by one of 1920 x 1080: Claude counts 2,768 tokens, GPT 2,448, and Gemini 1,101."""

_BARE_NAMES = {"claude-": "anthropic", "gpt-": "openai"}


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """Describes a tool that a model may call. `input_schema` is the JSON schema of its arguments, an object."""

    name: str
    description: str
    input_schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Holds a call of a tool. `arguments` is the text that the model wrote: JSON, unless it made a mistake."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Holds a piece of the reasoning that a model shows, which is no part of its answer."""

    text: str


Piece = str | Reasoning


@dataclass(frozen=True, slots=True)
class Image:
    """Holds a picture, encoded as its media type says, such as `image/png`."""

    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class UserMessage:
    text: str
    images: Sequence[Image] = ()


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """Holds a model's message. Each of its tool calls needs a `ToolResult` before the model goes on.

    `raw` is the message as its own provider wants it back, in JSON, with its reasoning and what signs it. `code` says
    why it stopped early. `reasoning` is what the model showed of its reasoning.
    """

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    raw: str | None = None
    code: str | None = None
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """Holds what a tool returned, or a sentence that says why it failed. `call_id` is the id of the `ToolCall`."""

    call_id: str
    name: str
    content: str


ChatMessage = UserMessage | AssistantMessage | ToolResult


@dataclass(frozen=True, slots=True)
class Prompt:
    """Describes a request to a model. `messages` begin with a UserMessage, and end with one or with a ToolResult.

    Without a `model` the gateway asks its first; without a `temperature` or a `reasoning_effort` the provider's default
    applies, and a model that takes none is asked without it. `output_schema` is the JSON schema of an object, which the
    answer's text should then be, in JSON: not every provider enforces it, and nobody checks it here.
    """

    messages: Sequence[ChatMessage]
    instructions: str = ""
    model: str | None = None
    tools: Sequence[ToolSpec] = ()
    temperature: float | None = None
    reasoning_effort: ReasoningEffort | None = None
    output_schema: Mapping[str, Any] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    tool_choice: ToolChoice = "auto"
    max_output_tokens: int | None = None
    """Limits the answer further than the operator's own limit does."""

    def estimate_tokens(self) -> int:
        """Returns about how many tokens the model reads."""
        return sum(map(estimate_tokens, self.texts())) + len(self.pictures) * TOKENS_PER_PICTURE

    @property
    def pictures(self) -> Sequence[Image]:
        """Returns the pictures of all messages."""
        return [image for message in self.messages if isinstance(message, UserMessage) for image in message.images]

    def texts(self) -> Iterator[str]:
        """Yields all text that the model reads."""
        yield self.instructions
        for tool in self.tools:
            yield from (tool.name, tool.description, json.dumps(tool.input_schema))
        if self.output_schema is not None:
            yield json.dumps(self.output_schema)
        for message in self.messages:
            match message:
                case UserMessage(text):
                    yield text
                case AssistantMessage(text, calls, reasoning=reasoning):
                    yield from (text, reasoning)
                    for call in calls:
                        yield from (call.name, call.arguments)
                case ToolResult(name=name, content=content):
                    yield from (name, content)


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """Counts the tokens that a stream has used so far, and their cost.

    `model` is the one that answers, which may be a fallback. `cost` is in US dollars; None if the price is unknown.
    """

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal | None = None


class ModelFailure(Exception):
    """Signals that a model failed. `code` and the message are for the person who asked; neither quotes the provider.

    `retry_after` is the number of seconds that the provider asks to wait.
    """

    def __init__(self, code: str, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.retry_after = retry_after


class ModelStream(Protocol):
    """Streams a model's answer while it arrives. It can be read once."""

    @property
    def usage(self) -> ModelUsage:
        """Returns the usage so far, which is right at any time, also after a failure or a cancellation.

        Where the provider states none, it is an estimate.
        """
        ...

    @property
    def message(self) -> AssistantMessage:
        """Returns the whole message once the stream has ended; before that, an empty one."""
        ...

    def __aiter__(self) -> AsyncGenerator[Piece]:
        """Yields pieces of text, and of the reasoning that the model shows. Raises ModelFailure."""
        ...


class Model(Protocol):
    """Asks one model, once; retries and fallbacks are up to the gateway."""

    @property
    def name(self) -> str: ...

    @property
    def has_own_retries(self) -> bool:
        """Tells whether its client retries by its own settings, so that the gateway does not."""
        ...

    def ask(self, prompt: Prompt) -> ModelStream:
        """Begins an answer. An empty piece shows that the model is at work, as on a tool call, and is not passed on."""
        ...


class ModelGateway(Protocol):
    """Asks the models that this service may use."""

    @property
    def models(self) -> Sequence[str]:
        """Lists their full names. The first is the default."""
        ...

    def check(self, model: str) -> None:
        """Raises Invalid if the model may not be used."""
        ...

    def ask(self, prompt: Prompt) -> AbstractAsyncContextManager[ModelStream]:
        """Asks the prompt's model, which must have passed `check`. Leaving the context stops the model."""
        ...


def full_name(model: str) -> str:
    """Returns `provider:name`, also for a bare name such as `gpt-5`."""
    for prefix, provider in _BARE_NAMES.items():
        if model.startswith(prefix):
            return f"{provider}:{model}"
    return model


def estimate_tokens(text: str) -> int:
    """Estimates tokens in every script: four Latin letters are a token, and so are one or two Chinese characters."""
    return -(-len(text.encode(errors="surrogatepass")) // BYTES_PER_TOKEN)
