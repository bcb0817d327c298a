"""Language models through pydantic-ai: any provider's."""

import re
import traceback
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import structlog
from pydantic_ai import exceptions
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.models import Model, StreamedResponse, infer_model
from pydantic_ai.settings import ModelSettings

from app.core.config import Settings
from app.core.errors import SetupError
from app.services.ai import Line, ModelFailure

_BARE_NAMES = {"claude-": "anthropic", "gpt-": "openai"}

log = structlog.stdlib.get_logger("app.ai")


class PydanticAI:
    """One model, whose client and connections are shared by everyone for as long as the process lives."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self._model = model
        self._system_prompt = settings.ai_system_prompt
        self._settings = _model_settings(model, settings)

    async def stream(self, lines: Sequence[Line]) -> AsyncGenerator[str]:
        try:
            async with model_request_stream(
                self._model, self._messages(lines), model_settings=self._settings
            ) as response:
                async for event in response:
                    if text := _text(event):
                        yield text
                _check_end(response)
        # Libraries raise what they like at what a provider sends; the person who asked gets a ModelFailure.
        except Exception as error:
            log.warning("model failed", model=self._model.model_name, **_facts(error))
            raise _failure(error) from None

    def _messages(self, lines: Sequence[Line]) -> list[ModelMessage]:
        messages: list[ModelMessage] = [_message(line) for line in lines[:-1]]
        return [*messages, ModelRequest.user_text_prompt(lines[-1].text, instructions=self._system_prompt)]


@asynccontextmanager
async def open_model(settings: Settings) -> AsyncGenerator[PydanticAI]:
    """Raises SetupError when AI_MODEL names a model that cannot be used: unknown, not installed or without a key."""
    async with _find_model(settings) as model:
        yield PydanticAI(model, settings)


def _find_model(settings: Settings) -> Model:
    name = settings.ai_model
    for prefix, provider in _BARE_NAMES.items():
        if name.startswith(prefix):
            name = f"{provider}:{name}"
    try:
        provider, _, model = name.partition(":")
        if not (provider and model):
            raise ValueError("name it demo, provider:name, or a bare claude-* or gpt-*")
        return infer_model(name)
    # Besides pydantic-ai's own errors, each provider's SDK has its own for a key that it misses.
    except Exception as error:
        raise SetupError(f"AI_MODEL={settings.ai_model} cannot be used: {_advice(str(error))}.") from None


def _advice(error: str) -> str:
    """What to do, in one clause; pydantic-ai names the extra or the variable, among advice to its own users."""
    if extra := re.search(r"pydantic-ai-slim\[[\w-]+\]", error):
        return f"install what it needs with `uv add '{extra[0]}'`"
    if variable := re.search(r"`([A-Z][A-Z0-9]*(_[A-Z0-9]+)+)`", error):
        return f"set {variable[1]} in .env or in the environment"
    if re.search(r"`region_name`|bedrock-runtime", error):
        return "set AWS_DEFAULT_REGION in .env or in the environment"
    return re.split(r"[.?!](\s|$)", error)[0]


def _model_settings(model: Model, settings: Settings) -> ModelSettings:
    """Those that the model knows; pydantic-ai warns of the others on each request.

    The time-out is for each try and each silence; the first word must come within it after all tries.
    """
    wanted = ModelSettings(
        timeout=settings.ai_timeout, first_event_timeout=settings.ai_timeout, max_retries=settings.ai_max_retries
    )
    for name in model.unsupported_settings & {"timeout", "max_retries"}:
        del wanted[name]
    return wanted


def _check_end(response: StreamedResponse) -> None:
    """An open stream that ends is no finished reply: the provider must have said that it is, and why."""
    match response.finish_reason:
        case "content_filter":
            raise exceptions.ContentFilterError("refused")
        case "error":
            raise exceptions.UnexpectedModelBehavior("failed without an error")
        # A reason that is newer than pydantic-ai is a reason all the same.
        case None if "finish_reason" not in (response.provider_details or {}):
            raise exceptions.ModelConnectionError(response.model_name, "ended without a last word")
        case _:
            pass


def _message(line: Line) -> ModelMessage:
    if line.role == "user":
        return ModelRequest.user_text_prompt(line.text)
    return ModelResponse(parts=[TextPart(line.text)])


def _text(event: ModelResponseStreamEvent) -> str:
    """The first piece of a text comes with the start of its part, not as a delta."""
    match event:
        case PartStartEvent(part=TextPart(content=text)):
            return text
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return text
        case _:
            return ""


def _facts(error: Exception) -> dict[str, object]:
    """What a log may say of a provider's error: its text may quote a key or a person's words."""
    facts: dict[str, object] = {"error": type(error).__name__, "status": getattr(error, "status_code", None)}
    if not isinstance(error, exceptions.AgentRunError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        facts["where"] = f"{frame.filename}:{frame.lineno}"
    return facts


def _failure(error: Exception) -> ModelFailure:
    match error:
        case exceptions.ModelTimeoutError() | exceptions.ModelRequestTimeout():
            return ModelFailure("model_timeout", "The model did not answer in time.")
        case exceptions.ModelConnectionError():
            return ModelFailure("model_disconnected", "The connection to the model was lost.")
        case exceptions.ModelAuthenticationError():
            return ModelFailure("model_refused_key", "The model's provider refuses this service's key.")
        case exceptions.ModelQuotaExceededError():
            return ModelFailure("model_quota", "This service's quota with the model's provider is used up.")
        case exceptions.ModelRateLimitError() | exceptions.ModelUnavailableError():
            return ModelFailure("model_overloaded", "The model is overloaded; try again later.")
        case exceptions.ModelContextWindowExceededError():
            return ModelFailure("context_too_long", "The conversation is too long for the model.")
        case (
            exceptions.ContentFilterError() | exceptions.ModelRequestRejectedError(provider_error_code="invalid_prompt")
        ):
            return ModelFailure("content_filtered", "The provider's content filter refused to answer.")
        case _:
            return ModelFailure("model_error", "The model's provider reported an error.")
