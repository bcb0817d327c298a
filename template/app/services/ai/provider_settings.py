"""Chooses what a request to a provider's model asks for, and leaves out what the model would refuse."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic_ai import models as pydantic_ai
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.profiles.anthropic import ANTHROPIC_THINKING_BUDGET_MAP
from pydantic_ai.settings import ModelSettings

from app.core.config import Settings
from app.services.ai.base import Prompt, ReasoningEffort, ToolChoice
from app.services.ai.provider_messages import to_tool

_MAX_TEMPERATURES = {"anthropic": 1.0, "bedrock": 1.0, "mistral": 1.5}
"""Holds the maximum of each provider that refuses a temperature of 2."""
_OWN_SERVERS = {"litellm", "ollama", "vllm"}
"""Names the providers that are programs which people run themselves."""
_LEAST_BUDGET = 1024
"""Holds the fewest tokens that Anthropic accepts as a budget of reasoning."""


class RequestOptions:
    """Chooses the settings and parameters with which one model is asked."""

    def __init__(self, provider: str, model: pydantic_ai.Model, settings: Settings) -> None:
        self._model = model
        self._profile = _profile(provider, model)
        self._settings = _supported_settings(provider, model, settings)
        self._max_temperature = _MAX_TEMPERATURES.get(provider, 2.0)
        self._takes_temperature = _takes_temperature(self._profile)
        limit = model.profile.get("anthropic_max_output_tokens") or settings.ai_max_output_tokens
        self._max_tokens = min(settings.ai_max_output_tokens, limit)
        self._least_tokens = 16 if provider in ("openai", "openai-responses") else 1  # OpenAI refuses to write less
        takes_budget = model.system == "anthropic" or self._profile.get("bedrock_thinking_variant") == "anthropic"
        self._has_budget = takes_budget and not self._profile.get("anthropic_supports_adaptive_thinking")
        self._takes_stops = _takes_stops(provider, model.model_name, self._profile)
        # pydantic-ai raises an error over a call that the model cannot be made to make.
        can_choose = provider != "bedrock" or model.profile.get("bedrock_supports_tool_choice", False)
        self._takes_choice = can_choose and model.profile.get("supports_forced_tool_choice", True)
        may_reason = not self._has_budget and (provider != "bedrock" or _is_claude(model.profile))
        self._takes_choice_while_reasoning = may_reason and model.profile.get(
            "supports_forced_tool_choice_with_thinking", True
        )

    def choose_settings(self, prompt: Prompt) -> ModelSettings:
        """Returns settings about which pydantic-ai does not warn, and which go together."""
        max_tokens = min(self._max_tokens, max(prompt.max_output_tokens or self._max_tokens, self._least_tokens))
        reasoning = self._choose_reasoning(prompt.reasoning_effort, max_tokens)
        chosen = {**self._choose_sampling(prompt, reasons=bool(reasoning.get("thinking"))), **reasoning}
        if prompt.tools and prompt.tool_choice != "auto":
            chosen["tool_choice"] = self._choose_tool(prompt.tool_choice, reasoning)
        return cast(ModelSettings, {**self._settings, **self._limit(max_tokens), **chosen})

    def choose_parameters(self, prompt: Prompt, settings: ModelSettings) -> pydantic_ai.ModelRequestParameters:
        """Returns the tools, and the form of the answer: by the provider's own means, or else by instructions."""
        plain = pydantic_ai.ModelRequestParameters(function_tools=list(map(to_tool, prompt.tools)))
        if prompt.output_schema is None:
            return plain
        native = replace(plain, output_mode="native", output_object=OutputObjectDefinition(dict(prompt.output_schema)))
        return native if self._is_accepted(native, settings) else replace(native, output_mode="prompted")

    def _choose_sampling(self, prompt: Prompt, *, reasons: bool) -> dict[str, Any]:
        """Returns how words are picked, without what the model refuses, such as a temperature while it reasons."""
        sampling, is_claude = prompt.sampling, _is_claude(self._profile)
        stops = [stop for stop in sampling.stop if stop.strip() or not is_claude]  # it refuses mere space
        wanted: dict[str, Any] = {"seed": sampling.seed, "stop_sequences": (self._takes_stops and stops) or None}
        if self._takes_temperature and not (reasons and _refuses_temperature_while_reasoning(self._profile)):
            wanted |= {
                "temperature": None if prompt.temperature is None else min(prompt.temperature, self._max_temperature),
                "top_p": None if is_claude and prompt.temperature is not None else sampling.top_p,  # it refuses both
                "presence_penalty": sampling.presence_penalty,
                "frequency_penalty": sampling.frequency_penalty,
            }
        refused = {*self._model.unsupported_settings, *self._profile.get("openai_unsupported_model_settings", ())}
        if "google_supports_tool_combination" in self._profile:  # Gemini, wherever it is served
            refused |= {"presence_penalty", "frequency_penalty", "seed" if abs(sampling.seed or 0) >= 2**31 else ""}
        return {name: value for name, value in wanted.items() if value is not None and name not in refused}

    def _choose_tool(self, choice: ToolChoice, reasoning: Mapping[str, Any]) -> str | list[str]:
        """Returns which tools must be called. A model that cannot be made to call one decides itself."""
        profile = self._model.profile
        by_default = profile.get("thinking_always_enabled") or profile.get("thinking_enabled_by_default")
        reasons = reasoning.get("thinking", by_default)
        if choice != "none" and not (self._takes_choice and (not reasons or self._takes_choice_while_reasoning)):
            return "auto"
        return choice if choice in ("none", "required") else [choice]

    def _limit(self, max_tokens: int) -> Mapping[str, Any]:
        """Returns the settings that limit the answer, if the request asks for less than the operator allows."""
        if max_tokens == self._max_tokens:
            return {}
        if "max_tokens" in self._settings:
            return {"max_tokens": max_tokens}
        return {"extra_body": {"max_tokens": max_tokens}} if "extra_body" in self._settings else {}

    def _choose_reasoning(self, effort: ReasoningEffort | None, max_tokens: int) -> Mapping[str, Any]:
        """Returns nothing for a model that takes no effort. A model that reasons is asked to show its reasoning."""
        profile = self._model.profile
        if effort is None or not (profile.get("supports_thinking") or profile.get("thinking_always_enabled")):
            return {}
        if effort == "none":
            return {"thinking": False}
        # Reasoning counts as output, so that a budget of as many tokens as the answer may have leaves none for words.
        budget = min(ANTHROPIC_THINKING_BUDGET_MAP[effort], max(_LEAST_BUDGET, max_tokens * 3 // 4))
        if self._has_budget and budget >= max_tokens:
            return {}
        return {"thinking": effort, **self._choose_display(budget)}

    def _choose_display(self, budget: int) -> Mapping[str, Any]:
        """Returns the settings of a provider's own that show reasoning, or that limit it by a budget."""
        with_budget = {"type": "enabled", "budget_tokens": budget}
        if self._model.system == "anthropic":
            adaptive = {"type": "adaptive", "display": "summarized"}
            return {"anthropic_thinking": with_budget if self._has_budget else adaptive}
        if self._has_budget:
            return {"bedrock_additional_model_requests_fields": {"thinking": with_budget}}
        if self._model.profile.get("google_supports_thinking_level") is False:
            return {"google_thinking_config": {"include_thoughts": True, "thinking_budget": budget}}
        return {"openai_reasoning_summary": "auto"} if self._profile.get("openai_supports_reasoning") else {}

    def _is_accepted(self, parameters: pydantic_ai.ModelRequestParameters, settings: ModelSettings) -> bool:
        """Asks pydantic-ai, which raises an error for what it knows that the model refuses, as a schema too large."""
        # Of tools beside a schema, which older models of Google refuse, it learns too late.
        if parameters.function_tools and self._model.profile.get("google_supports_tool_combination") is False:
            return False
        try:
            self._model.prepare_request(settings, parameters)
        # A schema with a reference to nothing raises anything, and fails again when the model is asked.
        except Exception:
            return False
        return True


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


def _takes_temperature(profile: Mapping[str, Any]) -> bool:
    """Decides as pydantic-ai does, which warns on each request about a temperature that it leaves out."""
    if profile.get("anthropic_disallows_sampling_settings") or profile.get("bedrock_disallows_sampling_settings"):
        return False
    if not profile.get("openai_supports_reasoning"):
        return True
    efforts = profile.get("openai_reasoning_efforts")
    may_not_reason = "none" in efforts if efforts is not None else profile.get("openai_supports_reasoning_effort_none")
    return bool(may_not_reason) and not profile.get("thinking_enabled_by_default")


def _refuses_temperature_while_reasoning(profile: Mapping[str, Any]) -> bool:
    """Tells whether the model is one of OpenAI's or Anthropic's, wherever it is served."""
    return bool(profile.get("openai_supports_reasoning")) or _is_claude(profile)


def _takes_stops(provider: str, model: str, profile: Mapping[str, Any]) -> bool:
    """Tells whether the model takes texts at which it stops, unlike OpenAI's that reason and most on Bedrock."""
    if provider == "bedrock":
        return _is_claude(profile) or "amazon." in model
    return not profile.get("openai_supports_reasoning")


def _is_claude(profile: Mapping[str, Any]) -> bool:
    """Tells whether the model is one of Anthropic's, wherever it is served."""
    return "anthropic_supports_adaptive_thinking" in profile
