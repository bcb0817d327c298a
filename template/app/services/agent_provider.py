"""Any provider's models, as those that use tools."""

import re
from collections.abc import Callable, Sequence
from hashlib import sha256

from pydantic_ai import models as pydantic_ai
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from app.services.agent_ai import NOTHING, Answered, Asked, Prompt, Returned, Step, ToolCall, ToolSpec, texts
from app.services.providers import ProviderAnswer, ProviderModel, Query

_HOTTEST = {"anthropic": 1.0, "bedrock": 1.0, "mistral": 1.5}
"""The highest temperature of those providers that refuse one of 2."""


class ProviderAgent:
    def __init__(self, model: ProviderModel) -> None:
        self._model = model
        self._takes_temperature = _takes_temperature(model.model)
        provider = model.name.partition(":")[0]
        self._hottest = _HOTTEST.get(provider, 2.0)
        self._id_of = _short_id if provider == "mistral" else str

    def ask(self, prompt: Prompt) -> Step:
        tools = [_definition(tool) for tool in prompt.tools]
        messages = _messages(prompt, self._id_of)
        return _ProviderStep(self._model, Query(messages, list(texts(prompt)), self._settings(prompt), tools))

    def _settings(self, prompt: Prompt) -> ModelSettings:
        settings = self._model.settings.copy()
        if self._takes_temperature:
            settings["temperature"] = min(prompt.temperature, self._hottest)
        return settings


class _ProviderStep(ProviderAnswer):
    answered: Answered = NOTHING

    def _piece(self, event: ModelResponseStreamEvent) -> str | None:
        match event:
            case PartStartEvent(part=ToolCallPart()) if self._query.tools:
                return ""
            case PartStartEvent(part=ThinkingPart()):
                return ""
            case PartDeltaEvent(delta=ToolCallPartDelta() | ThinkingPartDelta()):
                return ""
            case _:
                return super()._piece(event)

    def _finish(self, response: pydantic_ai.StreamedResponse) -> None:
        super()._finish(response)
        message = response.get()
        text = "".join(part.content for part in message.parts if isinstance(part, TextPart))
        calls = [ToolCall(part.tool_call_id, part.tool_name, _arguments(part)) for part in message.tool_calls]
        raw = ModelMessagesTypeAdapter.dump_json([message], exclude_none=True).decode()
        self.answered = Answered(text, calls, raw, self.code)


def _takes_temperature(model: pydantic_ai.Model) -> bool:
    """pydantic-ai warns, on each request, of one that it leaves out because the model takes none."""
    profile = model.profile
    if profile.get("anthropic_disallows_sampling_settings") or profile.get("bedrock_disallows_sampling_settings"):
        return False
    if not profile.get("openai_supports_reasoning"):
        return True
    efforts = profile.get("openai_reasoning_efforts")
    may_not_reason = "none" in efforts if efforts is not None else profile.get("openai_supports_reasoning_effort_none")
    return bool(may_not_reason) and not profile.get("thinking_enabled_by_default")


def _definition(tool: ToolSpec) -> ToolDefinition:
    return ToolDefinition(name=tool.name, description=tool.description, parameters_json_schema=dict(tool.input_schema))


def _short_id(id: str) -> str:
    """Mistral refuses another's ids of calls, which are there when a fallback goes on or did."""
    return id if re.fullmatch(r"[a-zA-Z0-9]{9}", id) else sha256(id.encode()).hexdigest()[:9]


def _messages(prompt: Prompt, id_of: Callable[[str], str]) -> Sequence[ModelMessage]:
    """What others said between two answers is one message."""
    messages: list[ModelMessage] = []
    parts: list[ModelRequestPart] = []
    instructions = prompt.instructions or None
    for entry in prompt.entries:
        match entry:
            case Asked(text):
                parts.append(UserPromptPart(text))
            case Returned(call_id, name, content):
                parts.append(ToolReturnPart(tool_name=name, content=content, tool_call_id=id_of(call_id)))
            case Answered():
                messages += [ModelRequest(parts, instructions=instructions), _response(entry, id_of)]
                parts = []
    return [*messages, ModelRequest(parts, instructions=instructions)]


def _response(answered: Answered, id_of: Callable[[str], str]) -> ModelMessage:
    if answered.raw is None:
        text = [TextPart(answered.text)] if answered.text else []
        message = ModelResponse([*text, *(ToolCallPart(call.name, call.arguments, call.id) for call in answered.calls)])
    else:
        [message] = ModelMessagesTypeAdapter.validate_json(answered.raw)
    for part in message.parts:
        if isinstance(part, ToolCallPart):
            part.tool_call_id = id_of(part.tool_call_id)
    return message


def _arguments(part: ToolCallPart) -> str:
    """As the model wrote them, where its provider passes on what it wrote."""
    return part.args if isinstance(part.args, str) and part.args else part.args_as_json_str()
