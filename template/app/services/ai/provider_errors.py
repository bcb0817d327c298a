"""Translates providers' errors, and the ends of their answers, for the person who asked and for the operator."""

import re
import traceback

from pydantic_ai import exceptions
from pydantic_ai import models as pydantic_ai
from pydantic_ai.messages import ModelResponsePart, TextPart, ToolCallPart

from app.services.ai.base import ModelFailure
from app.services.ai.chunk_reader import UNSTATED

_TOOL_CALLS = {"UNEXPECTED_TOOL_CALL", "MALFORMED_FUNCTION_CALL", "malformed_tool_use"}
"""Holds the finish reasons of providers for a tool call that they could not read or did not expect."""

_FILTERED = {"invalid_prompt", "content_filter", "data_inspection_failed", "1301"}
"""Holds the codes with which content filters of providers refuse a request."""
_TOO_LONG = re.compile(r"exceed_context_size_error|context_length_exceeded|context.{0,40}overflow")
"""Matches errors of servers that say in their own way that the context is too long."""
_NOT_FOUND = (
    "the provider knows no such model or no such address: a base URL usually ends in /v1, and servers that have no "
    "/v1/responses need openai-chat: in place of openai: before the model's name"
)


def to_failure(error: Exception) -> ModelFailure:
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
            return ModelFailure("model_unavailable", "The model's provider failed; try again later.", error.retry_after)
        case exceptions.ModelContextWindowExceededError():
            return ModelFailure("context_too_long", "The conversation is too long for the model.")
        case exceptions.ModelRequestRejectedError(body=body) if _TOO_LONG.search(str(body)):
            return ModelFailure("context_too_long", "The conversation is too long for the model.")
        case exceptions.ModelRequestRejectedError(provider_error_code=code) if code in _FILTERED:
            return ModelFailure("content_filtered", "The provider's content filter refused to answer.")
        case exceptions.ContentFilterError():
            return ModelFailure("content_filtered", "The provider's content filter refused to answer.")
        case _:
            return ModelFailure("model_error", "The model's provider reported an error.")


def tool_call_failure() -> ModelFailure:
    return ModelFailure("tool_call", "The model called a tool that is not available to it.")


def read_end(response: pydantic_ai.StreamedResponse) -> str | None:
    """Returns a code if the answer stopped early. Raises an error if it is no complete answer."""
    details = response.provider_details or {}
    if details.get("finish_reason") in _TOOL_CALLS:
        raise tool_call_failure()
    match response.finish_reason:
        case "content_filter" if "refusal" in details or details.get("finish_reason") == "refusal":
            raise ModelFailure("refused", "The model declined to answer.")
        case "content_filter":
            raise exceptions.ContentFilterError("filtered")
        case "error":
            raise exceptions.UnexpectedModelBehavior("failed without an error")
        # A stream that merely ends is no answer: the provider must have sent a finish reason, in its own words.
        # pydantic-ai takes a stream that stops without one for finished, and a reason that it does not know for none.
        case _ if "finish_reason" not in details:
            raise exceptions.ModelConnectionError(response.model_name, "ended without a finish reason")
        case _ if not any(isinstance(part, ToolCallPart) or _has_words(part) for part in response.get().parts):
            raise ModelFailure("empty_answer", "The model returned an empty answer.")
        case "length":
            return "length"
        case _:
            return "no_finish_reason" if details["finish_reason"] == UNSTATED else None


def describe_error(error: Exception) -> dict[str, object]:
    """Returns what a log may say of a provider's error, whose text may quote a key or a person's words."""
    status = getattr(error, "status_code", None)
    facts: dict[str, object] = {"error": type(error).__name__, "status": status}
    if status == 404:
        facts["advice"] = _NOT_FOUND
    if not isinstance(error, (exceptions.AgentRunError, ModelFailure)):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        facts["where"] = f"{frame.filename}:{frame.lineno}"
    return facts


def _has_words(part: ModelResponsePart) -> bool:
    return isinstance(part, TextPart) and bool(part.content.strip())
