"""Language models through pydantic-ai: any provider's."""

import re
import traceback
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache, partial
from typing import Any

import structlog
from pydantic_ai import Agent, exceptions
from pydantic_ai import models as pydantic_ai
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from app.core.config import Settings
from app.core.errors import SetupError
from app.core.telemetry.settings import TelemetrySettings
from app.services.ai import Answer, Line, Model, ModelFailure, Spent, estimated_tokens

_TOOL_CALLS = {"UNEXPECTED_TOOL_CALL", "MALFORMED_FUNCTION_CALL", "malformed_tool_use"}
"""What providers name as the reason when a model called a tool in its own way."""

log = structlog.stdlib.get_logger("app.ai")


class ProviderModel:
    """A provider's model, whose client and connections are shared by everyone for as long as the process lives."""

    def __init__(self, name: str, model: pydantic_ai.Model, settings: Settings) -> None:
        self.name = name
        self.tries_by_itself = "max_retries" in model.unsupported_settings
        """Its client tries again as often as its own settings say, and cannot be told otherwise."""
        self.model = model
        self.settings = _settings(model, settings)
        self._system_prompt = settings.ai_system_prompt

    def answer(self, lines: Sequence[Line]) -> Answer:
        *before, last = lines
        asked = ModelRequest.user_text_prompt(last.text, instructions=self._system_prompt or None)
        heard = [self._system_prompt, *(line.text for line in lines)]
        return ProviderAnswer(self, Query([*map(_message, before), asked], heard, self.settings))


@dataclass(frozen=True, slots=True)
class Query:
    """What a provider is asked. `heard` is every text in it."""

    messages: Sequence[ModelMessage]
    heard: Sequence[str]
    settings: ModelSettings
    tools: Sequence[ToolDefinition] = ()


class ProviderAnswer:
    code: str | None = None

    def __init__(self, model: ProviderModel, query: Query) -> None:
        self._name = model.name
        self._model = model.model
        self._query = query
        self._response: pydantic_ai.StreamedResponse | None = None

    @property
    def spent(self) -> Spent:
        if self._response is None:
            return Spent(self._name)
        response = self._response.get()
        usage = self._usage(response)
        return Spent(self._name, usage.input_tokens, usage.output_tokens, _cost(response, usage))

    async def __aiter__(self) -> AsyncGenerator[str]:
        try:
            async with self._ask() as response:
                self._response = response
                async for event in response:
                    if (piece := self._piece(event)) is not None:
                        yield piece
            self._finish(response)
        # Libraries raise what they like at what a provider sends; the person who asked gets a ModelFailure.
        except Exception as error:
            failure = _failure(error)
            log.warning("model failed", model=self._name, code=failure.code, **_facts(error))
            raise failure from None

    def _ask(self) -> AbstractAsyncContextManager[pydantic_ai.StreamedResponse]:
        return model_request_stream(
            self._model,
            self._query.messages,
            model_settings=self._query.settings,
            model_request_parameters=pydantic_ai.ModelRequestParameters(function_tools=list(self._query.tools)),
        )

    def _piece(self, event: ModelResponseStreamEvent) -> str | None:
        """What an event says, if anything. An empty text is a sign of life."""
        if isinstance(event, PartStartEvent) and isinstance(event.part, ToolCallPart):
            raise _tool_call()
        return _text(event) or None

    def _finish(self, response: pydantic_ai.StreamedResponse) -> None:
        self.code = _end(response)

    def _usage(self, response: ModelResponse) -> RequestUsage:
        """What the provider says at the end. Until then, and where it says nothing, at least what can be seen."""
        usage = response.usage
        if response.state == "complete" and usage.output_tokens:
            return usage
        heard, said = _estimate(self._query.heard), _estimate(_said(response))
        return replace(
            usage,
            input_tokens=usage.input_tokens or heard,
            output_tokens=max(usage.output_tokens, said),
            unmeasured_requests=0,
        )


@asynccontextmanager
async def open_models(
    wanted: Mapping[str, str], settings: Settings, telemetry: TelemetrySettings | None = None
) -> AsyncGenerator[Mapping[str, Model]]:
    """By full name; each comes with the setting that names it. Models of one provider share its client.

    Raises SetupError when one cannot be used: it is unknown, not installed or without a key.
    """
    if telemetry is not None and telemetry.sends:
        _trace(telemetry)
    provider = cache(partial(_provider, settings.ai_timeout))
    found = {name: _find(name, place, provider) for name, place in wanted.items()}
    async with AsyncExitStack() as stack:
        for model in found.values():
            await stack.enter_async_context(model)
        yield {name: ProviderModel(name, model, settings) for name, model in found.items()}


def _trace(telemetry: TelemetrySettings) -> None:
    """Each request to a provider is a span, which has in it what was said only where the settings say so."""
    instrumentation = InstrumentationSettings(
        include_content=telemetry.telemetry_content,
        include_binary_content=False,
        include_model_request_parameters=False,
    )
    Agent.instrument_all(instrumentation)


def _provider(timeout: float, name: str) -> Provider[Any]:
    if name != "bedrock":
        return infer_provider(name)
    # Its client blocks a thread for each reply, and one that was given up holds its thread for this long.
    bedrock: Any = infer_provider_class(name)
    return bedrock(aws_read_timeout=timeout)


def _find(name: str, place: str, provider: Callable[[str], Provider[Any]]) -> pydantic_ai.Model:
    try:
        if not re.fullmatch(r"[^:]+:.+", name):
            raise ValueError("name it demo, provider:name, or a bare claude-* or gpt-*")
        return pydantic_ai.infer_model(name, provider)
    # Besides pydantic-ai's own errors, each provider's SDK has its own for a key that it misses.
    except Exception as error:
        raise SetupError(f"{place} cannot be used: {_advice(str(error))}.") from None


def _advice(error: str) -> str:
    """What to do, in one clause; pydantic-ai names the extra or the variable, among advice to its own users."""
    if extra := re.search(r"pydantic-ai-slim\[[\w-]+\]", error):
        return f"install what it needs with `uv add '{extra[0]}'`"
    if variable := re.search(r"`([A-Z][A-Z0-9]*(_[A-Z0-9]+)+)`", error):
        return f"set {variable[1]} in .env or in the environment"
    if re.search(r"`region_name`|bedrock-runtime", error):
        return "set AWS_DEFAULT_REGION in .env or in the environment"
    return re.split(r"[.?!](\s|$)", error)[0]


def _settings(model: pydantic_ai.Model, settings: Settings) -> ModelSettings:
    """Those that the model knows; pydantic-ai warns of the others on each request."""
    wanted = ModelSettings(max_retries=0, max_tokens=settings.ai_max_output_tokens)
    for name in model.unsupported_settings & wanted.keys():
        del wanted[name]
    return wanted


def _end(response: pydantic_ai.StreamedResponse) -> str | None:
    """Why the answer stopped early, if it did. Raises what kept it from being an answer."""
    details = response.provider_details or {}
    if details.get("finish_reason") in _TOOL_CALLS:
        raise _tool_call()
    match response.finish_reason:
        case "content_filter" if "refusal" in details or details.get("finish_reason") == "refusal":
            raise ModelFailure("refused", "The model declined to answer.")
        case "content_filter":
            raise exceptions.ContentFilterError("filtered")
        case "error":
            raise exceptions.UnexpectedModelBehavior("failed without an error")
        # An open stream that ends is no answer: the provider must have said that it is, and why, in its own words.
        # pydantic-ai takes a stream that merely stops for finished, and a reason that it does not know for none.
        case _ if "finish_reason" not in details:
            raise exceptions.ModelConnectionError(response.model_name, "ended without a last word")
        case _ if not any(isinstance(part, ToolCallPart) or _words(part) for part in response.get().parts):
            raise ModelFailure("empty_answer", "The model said nothing.")
        case reason:
            return "length" if reason == "length" else None


def _tool_call() -> ModelFailure:
    return ModelFailure("tool_call", "The model asked for a tool that it cannot have.")


def _cost(response: ModelResponse, usage: RequestUsage) -> Decimal | None:
    if usage.cost is not None:  # some providers say it themselves
        return usage.cost
    try:
        return replace(response, usage=usage).cost().total_price if response.model_name else None
    except (LookupError, ValueError):  # no price is known, or the provider's numbers contradict each other
        return None


def _said(response: ModelResponse) -> Iterator[str]:
    for part in response.parts:
        match part:
            case TextPart(content=text) | ThinkingPart(content=text):
                yield text
            case ToolCallPart(tool_name=name):
                yield from (name, part.args_as_json_str())
            case _:
                pass


def _words(part: ModelResponsePart) -> bool:
    return isinstance(part, TextPart) and bool(part.content.strip())


def _estimate(texts: Iterable[str]) -> int:
    return sum(map(estimated_tokens, texts))


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
    if not isinstance(error, (exceptions.AgentRunError, ModelFailure)):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        facts["where"] = f"{frame.filename}:{frame.lineno}"
    return facts


def _failure(error: Exception) -> ModelFailure:
    match error:
        case ModelFailure():
            return error
        case exceptions.ModelTimeoutError():
            return ModelFailure("model_timeout", "The model did not answer in time.")
        case exceptions.ModelConnectionError():
            return ModelFailure("model_disconnected", "The connection to the model was lost.")
        case exceptions.ModelAuthenticationError():
            return ModelFailure("model_refused_key", "The model's provider refuses this service's key.")
        case exceptions.ModelQuotaExceededError():
            return ModelFailure("model_quota", "This service's quota with the model's provider is used up.")
        case exceptions.ModelRateLimitError() | exceptions.ModelUnavailableError():
            return ModelFailure("model_overloaded", "The model is overloaded; try again later.", error.retry_after)
        case exceptions.ModelServerError():
            return ModelFailure("model_unavailable", "The model's provider has trouble; try later.", error.retry_after)
        case exceptions.ModelContextWindowExceededError():
            return ModelFailure("context_too_long", "The conversation is too long for the model.")
        case (
            exceptions.ContentFilterError() | exceptions.ModelRequestRejectedError(provider_error_code="invalid_prompt")
        ):
            return ModelFailure("content_filtered", "The provider's content filter refused to answer.")
        case _:
            return ModelFailure("model_error", "The model's provider reported an error.")
