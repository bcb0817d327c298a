"""Defines requests for chat completions and the answers, as OpenAI's API has them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from app.core.reasoning import ReasoningEffort
from app.schemas.base import Body, Read, Text

Id = Annotated[Text, Field(min_length=1, max_length=200)]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ImageUrl(Body):
    url: Text
    """Holds the picture itself: `data:image/png;base64,…`."""
    detail: Text | None = None


class ContentPart(Body):
    """Holds a part of a message. Sounds and files are known, so that they are refused as not supported."""

    type: Literal["text", "image_url", "refusal", "input_audio", "file"]
    text: Text | None = None
    image_url: ImageUrl | None = None
    refusal: Text | None = None
    input_audio: Any = None
    file: Any = None


Content = Text | list[ContentPart]


class SystemMessage(Body):
    role: Literal["system", "developer"]
    content: Content
    name: Text | None = None


class UserMessage(Body):
    role: Literal["user"]
    content: Content
    name: Text | None = None


class Answered(Body):
    """Holds a part of an answer that comes back, to which clients add fields of their own, which are not needed."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"additionalProperties": False})


class CalledFunction(Answered):
    name: Id
    arguments: Text


class FunctionCall(Answered):
    id: Id
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(Answered):
    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: list[FunctionCall] | None = None


class ToolMessage(Body):
    role: Literal["tool"]
    tool_call_id: Id
    content: Content
    name: Text | None = None


MessageParam = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class FunctionDefinition(Body):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: Annotated[Text, Field(max_length=10_000)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Body):
    """Declares a function. Tools that are none are known, so that they are refused as not supported."""

    type: Literal["function", "custom"]
    function: FunctionDefinition | None = None
    custom: Any = None


class ChosenFunction(Body):
    name: Id


class ToolChoice(Body):
    type: Literal["function"]
    function: ChosenFunction


class JsonSchema(Body):
    name: Text | None = None
    description: Text | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


def _stops(value: str | list[str] | None) -> str | list[str] | None:
    if value == "" or (isinstance(value, list) and "" in value):
        raise ValueError("a text at which to stop must not be empty")
    return value


class ChatCompletionCreate(Body):
    """Asks for an answer. Other fields than these are looked at one by one, since some do no harm."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})

    model: Id
    """Names a model that `GET /v1/models` lists."""
    messages: Annotated[list[MessageParam], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[Text | Annotated[list[Text], Field(max_length=4)], AfterValidator(_stops)] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: Literal["auto", "none", "required"] | ToolChoice | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: ReasoningEffort | None = None


class FunctionCallRead(Read):
    id: str
    type: Literal["function"] = "function"
    function: dict[str, str]


class CompletionMessage(Read):
    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[FunctionCallRead] | None = None
    refusal: None = None
    annotations: list[Any] = Field(default_factory=list)


class Choice(Read):
    index: int = 0
    message: CompletionMessage
    finish_reason: FinishReason
    logprobs: None = None


class CompletionUsage(Read):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(Read):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    """Counts seconds since 1970."""
    model: str
    choices: list[Choice]
    usage: CompletionUsage


class ModelRead(Read):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    name: str
    """Names it for people, who would not know an agent by its id."""


class ModelList(Read):
    object: Literal["list"] = "list"
    data: list[ModelRead]


class ErrorDetail(Read):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorRead(Read):
    error: ErrorDetail
