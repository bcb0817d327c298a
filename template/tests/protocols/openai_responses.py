"""OpenAI's Responses API, which `openai:` models speak."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from tests.protocols.dialect import REQUEST_ID, SECRET, SO_FAR, Dialect, Failure
from tests.protocols.server import Answer, End, event, problem

_ITEM = "msg_68f1"
_PLACE = {"item_id": _ITEM, "output_index": 0, "content_index": 0}


def openai_problem(status: int, message: str, type: str, code: str | None, **headers: str) -> Answer:
    error = {"message": f"{message} (request {REQUEST_ID})", "type": type, "param": None, "code": code}
    return problem(status, {"error": error}, x_request_id=REQUEST_ID, **headers)


class OpenAIDialect(Dialect):
    """What OpenAI's two protocols share: how a request is refused."""

    sdk = "openai"
    key_variable = "OPENAI_API_KEY"
    url_variable = "OPENAI_BASE_URL"
    url_path = "/v1"

    refused_key = openai_problem(
        401, "Incorrect API key provided: sk-hunt******6789.", "invalid_request_error", "invalid_api_key"
    )
    rate_limited = openai_problem(
        429, "Rate limit reached for gpt-5-mini on tokens per min.", "tokens", "rate_limit_exceeded", retry_after="20"
    )
    out_of_quota = openai_problem(
        429, "You exceeded your current quota, please check your plan.", "insufficient_quota", "insufficient_quota"
    )
    broken = openai_problem(500, "The server had an error while processing your request.", "server_error", None)
    overloaded = openai_problem(
        503, "Our servers are currently overloaded.", "service_unavailable_error", "server_is_overloaded"
    )
    too_long = openai_problem(
        400, "Your input exceeds the context window.", "invalid_request_error", "context_length_exceeded"
    )
    flagged = openai_problem(400, "Your prompt was flagged.", "invalid_request_error", "invalid_prompt")

    @abstractmethod
    def refuse(self, words: str) -> Answer:
        """The model declines, in words that are no text of a reply."""

    @abstractmethod
    def stop_early(self, *deltas: str, reason: str) -> Answer: ...

    def failures(self) -> Mapping[str, Failure]:
        return {
            **super().failures(),
            "prompt flagged": Failure(self.flagged, "content_filtered"),
            "refusal": Failure(self.refuse(f"No {SECRET}."), "content_filtered"),
            "content filter": Failure(self.stop_early(SO_FAR, reason="content_filter"), "content_filtered", SO_FAR),
            "error event": self.reported("server_error", "model_error"),
            "rate limit event": self.reported("rate_limit_exceeded", "model_overloaded"),
            "context too long event": self.reported("context_length_exceeded", "context_too_long"),
            "no object": self.odd(b"data: null\n\n"),
        }


class Responses(OpenAIDialect):
    model = "openai:gpt-5-test"

    def opening(self) -> Sequence[bytes]:
        item = {"id": _ITEM, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        return [
            _event("response.created", response=_response("in_progress")),
            _event("response.in_progress", response=_response("in_progress")),
            _event("response.output_item.added", output_index=0, item=item),
            _event("response.content_part.added", **_PLACE, part=_part("")),
        ]

    def delta(self, text: str) -> bytes:
        return _event("response.output_text.delta", **_PLACE, delta=text, logprobs=[], obfuscation="x1y2")

    def closing(self, text: str) -> Sequence[bytes]:
        item = {"id": _ITEM, "type": "message", "status": "completed", "role": "assistant", "content": [_part(text)]}
        return [
            _event("response.output_text.done", **_PLACE, text=text, logprobs=[]),
            _event("response.content_part.done", **_PLACE, part=_part(text)),
            _event("response.output_item.done", output_index=0, item=item),
            _event("response.completed", response=_response("completed", output=[item])),
        ]

    def error(self, kind: str) -> bytes:
        return _event("error", code=kind, message=f"Something went wrong ({REQUEST_ID}).", param=None)

    def failed(self, error: Mapping[str, str] | None) -> bytes:
        """The other way to report an error: the response itself has failed."""
        return _event("response.failed", response=_response("failed", error=error))

    def failures(self) -> Mapping[str, Failure]:
        error = {"code": "server_error", "message": f"Something went wrong ({REQUEST_ID})."}
        return {
            **super().failures(),
            "failed": self.odd(self.failed(error)),
            "failed without a reason": Failure(Answer([*self.begin(SO_FAR), self.failed(None)]), "model_error", SO_FAR),
            "no last word": Failure(self.break_off(SO_FAR, end=End.whole), "model_disconnected", SO_FAR),
            "half an event": self.odd(event({"type": "response.completed", "sequence_number": 7})),
        }

    def refuse(self, words: str) -> Answer:
        part = {"type": "refusal", "refusal": words}
        item = {"id": _ITEM, "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        return Answer(
            [
                *self.opening()[:3],
                _event("response.content_part.added", **_PLACE, part={"type": "refusal", "refusal": ""}),
                _event("response.refusal.delta", **_PLACE, delta=words),
                _event("response.refusal.done", **_PLACE, refusal=words),
                _event("response.content_part.done", **_PLACE, part=part),
                _event("response.output_item.done", output_index=0, item=item),
                _event("response.completed", response=_response("completed", output=[item])),
            ]
        )

    def stop_early(self, *deltas: str, reason: str) -> Answer:
        details = {"reason": reason}
        incomplete = _event("response.incomplete", response=_response("incomplete", incomplete_details=details))
        return Answer([*self.begin(*deltas), incomplete])


def _event(type: str, **data: Any) -> bytes:
    return event({"type": type, "sequence_number": 0, **data}, type)


def _part(text: str) -> Mapping[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _response(status: str, **more: Any) -> Mapping[str, Any]:
    usage = {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 17,
    }
    return {
        "id": "resp_68f1",
        "object": "response",
        "created_at": 1_760_000_000,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": "gpt-5-mini-2025-08-07",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None if status == "in_progress" else usage,
        **more,
    }


RESPONSES = Responses()
