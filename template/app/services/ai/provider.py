"""Asks language models of any provider, through pydantic-ai."""

import inspect
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache, partial
from typing import Any, cast
from urllib.parse import urlsplit

import structlog
from pydantic_ai import Agent
from pydantic_ai import models as pydantic_ai
from pydantic_ai.direct import model_request_stream
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
from app.services.ai.base import AssistantMessage, Model, ModelStream, ModelUsage, Prompt, estimate_tokens
from app.services.ai.openai_compatible import open_http_client
from app.services.ai.provider_errors import describe_error, read_end, to_failure, tool_call_failure
from app.services.ai.provider_messages import from_response, response_texts, short_id, to_messages, to_tool
from app.services.ai.surrogates import SurrogatePairs

_MAX_TEMPERATURES = {"anthropic": 1.0, "bedrock": 1.0, "mistral": 1.5}
"""Holds the maximum of each provider that refuses a temperature of 2."""
_ADDRESSES = ("base_url", "api_base", "azure_endpoint")
"""Lists how providers' clients call the base URL."""
_OWN_SERVERS = {"litellm", "ollama", "vllm"}
"""Names the providers that are programs which people run themselves."""
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
        self._settings = _supported_settings(provider, model, settings)
        self._takes_temperature = _takes_temperature(provider, model)
        self._max_temperature = _MAX_TEMPERATURES.get(provider, 2.0)
        self._to_call_id = short_id if provider == "mistral" else str

    def ask(self, prompt: Prompt) -> ModelStream:
        settings = self._settings.copy()
        if self._takes_temperature and prompt.temperature is not None:
            settings["temperature"] = min(prompt.temperature, self._max_temperature)
        request = _Request(
            to_messages(prompt, self._to_call_id),
            settings,
            pydantic_ai.ModelRequestParameters(function_tools=list(map(to_tool, prompt.tools))),
        )
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
        self._pairs = SurrogatePairs()

    @property
    def usage(self) -> ModelUsage:
        if self._response is None:
            return ModelUsage(self._name)
        response = self._response.get()
        usage = self._usage(response)
        return ModelUsage(self._name, usage.input_tokens, usage.output_tokens, _cost(response, usage))

    async def __aiter__(self) -> AsyncGenerator[str]:
        try:
            async with self._open() as response:
                self._response = response
                async for event in response:
                    if (piece := self._piece(event)) is not None:
                        yield self._pairs.join(piece)
                if rest := self._pairs.end():
                    yield rest
            self.message = from_response(response.get(), read_end(response))
        # Libraries may raise anything over what a provider sends; the caller gets a ModelFailure.
        except Exception as error:
            failure = to_failure(error)
            log.warning("model failed", model=self._name, code=failure.code, **describe_error(error))
            raise failure from None

    def _open(self) -> AbstractAsyncContextManager[pydantic_ai.StreamedResponse]:
        return model_request_stream(
            self._model,
            self._request.messages,
            model_settings=self._request.settings,
            model_request_parameters=self._request.parameters,
        )

    def _piece(self, event: ModelResponseStreamEvent) -> str | None:
        """Returns the text of an event; an empty one for reasoning and tool calls. Raises ModelFailure."""
        match event:
            # The first piece of a text comes with the start of its part, not as a delta.
            case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                return text or None
            case PartStartEvent(part=ToolCallPart()) if not self._prompt.tools:
                raise tool_call_failure()
            case PartStartEvent(part=ToolCallPart() | ThinkingPart()):
                return ""
            case PartDeltaEvent(delta=ToolCallPartDelta() | ThinkingPartDelta()):
                return ""
            case _:
                return None

    def _usage(self, response: ModelResponse) -> RequestUsage:
        """Returns the usage that the provider states at the end; until then, or if it states none, an estimate."""
        usage = response.usage
        if response.state == "complete" and usage.output_tokens:
            return usage
        return replace(
            usage,
            input_tokens=usage.input_tokens or _estimate(self._prompt.texts()),
            output_tokens=max(usage.output_tokens, _estimate(response_texts(response))),
            unmeasured_requests=0,
        )


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


def _supported_settings(provider: str, model: pydantic_ai.Model, settings: Settings) -> ModelSettings:
    """Leaves out settings that the model does not support, about which pydantic-ai would warn on each request."""
    wanted: dict[str, Any] = {"max_retries": 0, "max_tokens": settings.ai_max_output_tokens}
    if _wants_max_tokens(provider, model):
        wanted["extra_body"] = {"max_tokens": wanted.pop("max_tokens")}
    if provider == "groq" and model.profile.get("groq_supports_reasoning_disable"):
        wanted["groq_reasoning_format"] = "parsed"  # by default its thoughts are in the text, between tags
    for name in model.unsupported_settings & wanted.keys():
        del wanted[name]
    return cast(ModelSettings, wanted)


def _wants_max_tokens(provider: str, model: pydantic_ai.Model) -> bool:
    """Tells whether to send `max_tokens`, which all servers know, in place of OpenAI's newer `max_completion_tokens`.

    OpenAI's own models that reason accept only the new one, also behind a proxy.
    """
    if provider in _OWN_SERVERS:
        return True
    is_proxy = provider == "openai-chat" and urlsplit(model.base_url or "").hostname != "api.openai.com"
    return is_proxy and not _profile(provider, model).get("openai_supports_reasoning")


def _profile(provider: str, model: pydantic_ai.Model) -> Mapping[str, Any]:
    """Returns what the model can do; gateways put the names of vendors before OpenAI's names, as `openai/gpt-5`."""
    *vendors, bare_name = model.model_name.split("/")
    is_prefixed = vendors and provider == "openai-chat"
    return pydantic_ai.infer_model_profile(f"{provider}:{bare_name}") if is_prefixed else model.profile


def _takes_temperature(provider: str, model: pydantic_ai.Model) -> bool:
    """Decides as pydantic-ai does, which warns on each request about a temperature that it leaves out."""
    profile = _profile(provider, model)
    if profile.get("anthropic_disallows_sampling_settings") or profile.get("bedrock_disallows_sampling_settings"):
        return False
    if not profile.get("openai_supports_reasoning"):
        return True
    efforts = profile.get("openai_reasoning_efforts")
    may_not_reason = "none" in efforts if efforts is not None else profile.get("openai_supports_reasoning_effort_none")
    return bool(may_not_reason) and not profile.get("thinking_enabled_by_default")


def _cost(response: ModelResponse, usage: RequestUsage) -> Decimal | None:
    if usage.cost is not None:  # some providers state it themselves
        return usage.cost
    try:
        return replace(response, usage=usage).cost().total_price if response.model_name else None
    except (LookupError, ValueError):  # no price is known, or the provider's numbers contradict each other
        return None


def _estimate(texts: Iterable[str]) -> int:
    return sum(map(estimate_tokens, texts))
