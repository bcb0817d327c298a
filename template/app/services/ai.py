"""What the rest of the application knows of language models."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol

BYTES_PER_TOKEN = 4

_BARE_NAMES = {"claude-": "anthropic", "gpt-": "openai"}


@dataclass(frozen=True, slots=True)
class Line:
    """One contribution to a conversation, as a model reads it."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Spent:
    """What an answer used so far.

    `model` is the one that answered, which may be a fallback. `cost` is in US dollars; None where no price is known.
    """

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal | None = None


class ModelFailure(Exception):
    """A model did not finish. `code` and the message are for the person who asked; neither quotes the provider.

    `retry_after` is the number of seconds that the provider asks to wait.
    """

    def __init__(self, code: str, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.retry_after = retry_after


class Answer(Protocol):
    """What a model says, piece by piece as it arrives. It can be read once."""

    @property
    def spent(self) -> Spent:
        """Right at every moment, also after a failure or a cancellation.

        Where the provider tells nothing, it is an estimate.
        """
        ...

    @property
    def code(self) -> str | None:
        """Known at the end: why the answer stopped early although it is one."""
        ...

    def __aiter__(self) -> AsyncGenerator[str]:
        """Pieces of text, none of them empty. Raises ModelFailure."""
        ...


class Model(Protocol):
    """One model, asked once."""

    @property
    def name(self) -> str: ...

    @property
    def tries_by_itself(self) -> bool:
        """It tries again as its own settings say, and need not be asked again."""
        ...

    def answer(self, lines: Sequence[Line]) -> Answer:
        """An empty piece is a sign of life: it ends a silence and is not passed on."""
        ...


class AI(Protocol):
    """The models that this service may use."""

    @property
    def models(self) -> Sequence[str]:
        """The names that may be asked for. The first is the one that answers when none is."""
        ...

    def check(self, model: str) -> None:
        """Raises Invalid when it may not be asked for."""
        ...

    def answer(self, lines: Sequence[Line], model: str | None = None) -> AbstractAsyncContextManager[Answer]:
        """The last line is the user's. `model` is one of `models`. Leaving the context stops the model."""
        ...


def full_name(model: str) -> str:
    """`provider:name`, also for a bare name such as `gpt-5`."""
    for prefix, provider in _BARE_NAMES.items():
        if model.startswith(prefix):
            return f"{provider}:{model}"
    return model


def estimated_tokens(text: str) -> int:
    """About right for every script: four Latin letters are a token, and so are one or two Chinese characters."""
    return -(-len(text.encode(errors="surrogatepass")) // BYTES_PER_TOKEN)
