"""What the rest of the application knows of language models."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from app.core.config import Settings


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


@asynccontextmanager
async def open_ai(settings: Settings) -> AsyncGenerator[AI]:
    """The model that AI_MODEL names, with one client for everyone. Raises SetupError when it cannot be used."""
    # Imported where it is opened: the providers take a second and 50 MB, which the demo and most commands spare.
    if settings.ai_model == "demo":
        from app.services.demo import DemoAI

        yield DemoAI(settings.demo_model_delay)
    else:
        from app.services.providers import open_model

        async with open_model(settings) as model:
            yield model
