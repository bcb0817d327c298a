"""Defines what a completion is asked for and what comes of it, whether a model or an agent answers."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from app.core.errors import AppError, NotFound
from app.core.reasoning import ReasoningEffort
from app.schemas.client_tool import DeclaredTool
from app.services.ai import ChatMessage, Reasoning, Sampling, ToolCall, ToolChoice

AGENT = "agent:"
"""Begins the name of a model that is an agent, before its id."""

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """Holds what a client asks for. `messages` begin with a user's and end with a user's or with results of tools."""

    model: str
    messages: Sequence[ChatMessage]
    instructions: str = ""
    """Holds what the client's system and developer messages say."""
    tools: Sequence[DeclaredTool] = ()
    tool_choice: ToolChoice = "auto"
    temperature: float | None = None
    reasoning_effort: ReasoningEffort | None = None
    sampling: Sampling = field(default_factory=Sampling)
    max_output_tokens: int | None = None
    output_schema: dict[str, Any] | None = None


class UnsupportedParameter(AppError):
    status, code = 400, "unsupported_parameter"

    def __init__(self, param: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = param


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, id: str) -> None:
        super().__init__("The model", id[:200])
        self.field = "model"


class Interrupted(AppError):
    """Ends an answer that cannot go on here, or that begins anew with other words."""

    status, code = 503, "interrupted"


@dataclass(frozen=True, slots=True)
class CompletionEnd:
    """Ends a completion that has not failed."""

    finish_reason: FinishReason
    input_tokens: int
    output_tokens: int


Step = str | Reasoning | Sequence[ToolCall] | CompletionEnd | None
"""Carries a piece of text or reasoning, all calls that the client is to run, or the end; None: it is still alive."""


class Completion(Protocol):
    """Represents an answer under way, or one that has ended and is given again."""

    @property
    def id(self) -> UUID: ...

    @property
    def created_at(self) -> datetime: ...

    def follow(self) -> AsyncGenerator[Step]:
        """Yields the answer until its end, which comes last. Raises AppError, and ModelFailure.

        Closing it before its end means that the client has left.
        """
        ...


class Completer(Protocol):
    """Answers one person's requests."""

    async def begin(self, request: CompletionRequest, key: str | None) -> Completion:
        """Begins an answer; with an idempotency key that was used before, returns the first one. Raises AppError."""
        ...


@dataclass(frozen=True, slots=True)
class ListedModel:
    id: str
    name: str
    owner: str
    created_at: datetime


class AgentCompleter(Completer, Protocol):
    """Answers by agents, where the service has any."""

    async def list_models(self) -> Sequence[ListedModel]:
        """Returns the person's newest agents, as models; nothing for a caller who may not read agents."""
        ...

    async def find_model(self, id: str) -> ListedModel:
        """Returns an agent of the person, whichever it is. Raises ModelNotFound."""
        ...
