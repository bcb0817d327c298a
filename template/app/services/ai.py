"""What the rest of the application knows of language models."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Line:
    """One contribution to a conversation, as a model reads it."""

    role: Literal["user", "assistant"]
    text: str


class ModelFailure(Exception):
    """A model did not finish. `code` and the message are for the person who asked; neither quotes the provider."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class AI(Protocol):
    def stream(self, lines: Sequence[Line]) -> AsyncGenerator[str]:
        """The reply, piece by piece as it arrives; the last line is the user's. Raises ModelFailure."""
        ...
