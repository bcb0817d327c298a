"""Asks language models of any provider, through pydantic-ai."""

import inspect
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache, partial
from typing import Any, cast

import structlog
from pydantic_ai import Agent
from pydantic_ai import models as pydantic_ai
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import ModelRequestRejectedError
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from app.core.config import Settings, read_provider_settings
from app.core.errors import SetupError
from app.core.telemetry.settings import TelemetrySettings
from app.services.ai.base import (
    AssistantMessage,
    Model,
    ModelStream,
    ModelUsage,
    Piece,
    Prompt,
    Reasoning,
    estimate_tokens,
)
from app.services.ai.openai_compatible import open_http_client
from app.services.ai.provider_errors import describe_error, read_end, to_failure, tool_call_failure
from app.services.ai.provider_messages import from_response, response_texts, short_id, to_messages
from app.services.ai.provider_settings import RequestOptions
from app.services.ai.surrogates import SurrogatePairs
from app.services.ai.thinking_tags import WITHHELD

_ADDRESSES = ("base_url", "api_base", "azure_endpoint")
"""Lists how providers' clients call the base URL."""
_SAME_PROVIDER = {"openai-chat": "openai", "openai-responses": "openai"}
"""Maps the names of a provider's several protocols to the provider."""

log = structlog.stdlib.get_logger("app.ai")


class ProviderModel:
    """Asks a provider's model, whose client and connections everyone shares for as long as the process lives."""

    def __init__(self, name: str, model: pydantic_ai.Model, settings: Settings) -> None:
        provider = name.partition(":")[0]
        self.name = name
        self.has_own_retries = "max_retries" in model.unsupported_settings
        self._model = model
        self._options = RequestOptions(provider, model, settings)
        self._to_call_id = short_id if provider == "mistral" else str

    def ask(self, prompt: Prompt) -> ModelStream:
        settings = self._options.choose_settings(prompt)
        parameters = self._options.choose_parameters(prompt, settings)
        request = _Request(to_messages(prompt, self._to_call_id), settings, parameters)
        return _ProviderStream(self.name, self._model, prompt, request)


@dataclass(frozen=True, slots=True)
class _Request:
    """Holds a prompt in pydantic-ai's types."""

    messages: Sequence[ModelMessage]
    settings: ModelSettings
    parameters: pydantic_ai.ModelRequestParameters


class _ProviderStream:
    def __init__(self, name: str, model: pydantic_ai.Model, prompt: Prompt, request: _Request) -> None:
        self.message = AssistantMessage()
        self._name = name
        self._model = model
        self._prompt = prompt
        self._request = request
        self._response: pydantic_ai.StreamedResponse | None = None
        self._text = SurrogatePairs()
        self._reasoning = _ShownReasoning()

    @property
    def usage(self) -> ModelUsage:
        if self._response is None:
            return ModelUsage(self._name)
        response = self._response.get()
        usage = self._usage(response)
        return ModelUsage(self._name, usage.input_tokens, usage.output_tokens, _cost(response, usage))

    async def __aiter__(self) -> AsyncGenerator[Piece]:
        try:
            async with AsyncExitStack() as stack:
                self._response = response = await self._open(stack)
                async for event in response:
                    for piece in self._pieces(event):
                        yield piece
                if rest := self._text.end():
                    yield rest
            self.message = from_response(response.get(), read_end(response), self._reasoning.text)
        # Libraries may raise anything over what a provider sends; the caller gets a ModelFailure.
        except Exception as error:
            failure = to_failure(error)
            log.warning("model failed", model=self._name, code=failure.code, **describe_error(error))
            raise failure from None

    async def _open(self, stack: AsyncExitStack) -> pydantic_ai.StreamedResponse:
        """Opens the stream, without summaries of reasoning if OpenAI refuses them to the owner of the key."""
        settings = self._request.settings
        try:
            return await stack.enter_async_context(self._request_stream(settings))
        except ModelRequestRejectedError as error:
            plain: dict[str, Any] = {name: settings[name] for name in settings if name != "openai_reasoning_summary"}
            if len(plain) == len(settings) or "reasoning.summary" not in str(error.body):
                raise
            return await stack.enter_async_context(self._request_stream(cast(ModelSettings, plain)))

    def _request_stream(self, settings: ModelSettings) -> AbstractAsyncContextManager[pydantic_ai.StreamedResponse]:
        return model_request_stream(
            self._model,
            self._request.messages,
            model_settings=settings,
            model_request_parameters=self._request.parameters,
        )

    def _pieces(self, event: ModelResponseStreamEvent) -> Iterator[Piece]:
        """Yields what an event shows; an empty text for a sign of life alone. Raises ModelFailure."""
        match event:
            # The first piece of a text comes with the start of its part, not as a delta.
            case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                if text:
                    yield from self._reasoning.end()
                    yield self._text.join(text)
            case PartStartEvent(part=ThinkingPart(content=text)):
                yield self._reasoning.begin(text)
            case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text)):
                yield self._reasoning.add(text or "")
            case PartStartEvent(part=ToolCallPart()) if not self._prompt.tools:
                raise tool_call_failure()
            case PartStartEvent(part=ToolCallPart()) | PartDeltaEvent(delta=ToolCallPartDelta()):
                yield from self._reasoning.end()
                yield ""
            case _:
                pass

    def _usage(self, response: ModelResponse) -> RequestUsage:
        """Returns the usage that the provider states at the end; until then, or if it states none, an estimate."""
        usage = response.usage
        if response.state == "complete" and usage.output_tokens:
            return usage
        return replace(
            usage,
            input_tokens=usage.input_tokens or self._prompt.estimate_tokens(),
            output_tokens=max(usage.output_tokens, _estimate(response_texts(response))),
            unmeasured_requests=0,
        )


class _ShownReasoning:
    """Reads the reasoning of one answer. A blank line parts its parts, as summaries, that follow each other."""

    def __init__(self) -> None:
        self.text = ""
        self._pairs = SurrogatePairs()
        self._is_new_part = False

    def begin(self, text: str) -> Piece:
        self._is_new_part = bool(self.text)
        return self.add(text)

    def add(self, text: str) -> Piece:
        """Returns what can be shown; an empty text if there is nothing, as in a signature."""
        return self._show(self._pairs.join(text.replace(WITHHELD, "")))

    def end(self) -> Iterator[Piece]:
        if piece := self._show(self._pairs.end()):
            yield piece

    def _show(self, text: str) -> Piece:
        if not text:
            return ""
        text = f"\n\n{text}" if self._is_new_part else text
        self._is_new_part = False
        self.text += text
        return Reasoning(text)


@asynccontextmanager
async def open_models(
    wanted: Mapping[str, str], settings: Settings, telemetry: TelemetrySettings | None = None
) -> AsyncGenerator[Mapping[str, Model]]:
    """Opens models by full name; each comes with the setting that names it. Models of one provider share its client.

    Raises SetupError when one cannot be used: it is unknown, not installed or without a key.
    """
    if telemetry is not None and telemetry.sends:
        _trace(telemetry)
    async with AsyncExitStack() as stack:
        provider = cache(partial(_open_provider, settings.ai_timeout, stack))
        found = {name: _find(name, place, provider) for name, place in wanted.items()}
        for model in found.values():
            await stack.enter_async_context(model)
        yield {name: ProviderModel(name, model, settings) for name, model in found.items()}


def _trace(telemetry: TelemetrySettings) -> None:
    """Makes each request to a provider a span, which contains messages only where the settings say so."""
    instrumentation = InstrumentationSettings(
        include_content=telemetry.telemetry_content,
        include_binary_content=False,
        include_model_request_parameters=False,
    )
    Agent.instrument_all(instrumentation)


def _open_provider(timeout: float, stack: AsyncExitStack, name: str) -> Provider[Any]:
    """Opens a provider's client with the key and the address of the settings; without any it finds its own."""
    if name.startswith("gateway/"):
        return infer_provider(name)
    own = read_provider_settings(_SAME_PROVIDER.get(name, name))
    values = {"api_key": own.api_key and own.api_key.get_secret_value(), **dict.fromkeys(_ADDRESSES, own.base_url)}
    taken = inspect.signature(infer_provider_class(name)).parameters.keys()
    given: dict[str, Any] = {key: value for key, value in values.items() if value and key in taken}
    if name == "bedrock":
        # Its client blocks a thread for each reply, and a reply that was given up holds its thread for this long.
        given["aws_read_timeout"] = timeout
    if own.base_url and "api_key" not in given and _SAME_PROVIDER.get(name, name) == "openai":
        given["api_key"] = "none"  # a server of one's own may need no key, but the client does
    if {"openai_client", "http_client"} <= taken:
        given["http_client"] = client = open_http_client()
        stack.push_async_callback(client.aclose)
    return infer_provider_class(name)(**given) if given else infer_provider(name)


def _find(name: str, place: str, provider: Callable[[str], Provider[Any]]) -> pydantic_ai.Model:
    try:
        if not re.fullmatch(r"[^:]+:.+", name):
            raise ValueError("name it demo, provider:name, or a bare claude-* or gpt-*")
        return pydantic_ai.infer_model(name, provider)
    except SetupError:
        raise
    # Besides pydantic-ai's own errors, each provider's SDK raises its own for a missing key.
    except Exception as error:
        raise SetupError(f"{place} cannot be used: {_advice(str(error))}.") from None


def _advice(error: str) -> str:
    """Says what to do, in one clause; pydantic-ai names the extra or the variable, among advice to its own users."""
    if extra := re.search(r"pydantic-ai-slim\[[\w-]+\]", error):
        return f"install what it needs with `uv add '{extra[0]}'`"
    if variable := re.search(r"`([A-Z][A-Z0-9]*(_[A-Z0-9]+)+)`", error):
        return f"set {variable[1]} in .env or in the environment"
    if re.search(r"`region_name`|bedrock-runtime", error):
        return "set AWS_DEFAULT_REGION in .env or in the environment"
    return re.split(r"[.?!](\s|$)", error)[0]


def _cost(response: ModelResponse, usage: RequestUsage) -> Decimal | None:
    if usage.cost is not None:  # some providers state it themselves
        return usage.cost
    try:
        return replace(response, usage=usage).cost().total_price if response.model_name else None
    except (LookupError, ValueError):  # no price is known, or the provider's numbers contradict each other
        return None


def _estimate(texts: Iterable[str]) -> int:
    return sum(map(estimate_tokens, texts))
