"""Anthropic's Messages API."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.protocols.dialect import REQUEST_ID, SO_FAR, Dialect, Failure
from tests.protocols.server import Answer, End, event, problem


def _error(type: str, message: str) -> Mapping[str, Any]:
    error = {"type": type, "message": f"{message} (request {REQUEST_ID})"}
    return {"type": "error", "error": error, "request_id": REQUEST_ID}


def _problem(status: int, type: str, message: str, **headers: str) -> Answer:
    return problem(status, _error(type, message), request_id=REQUEST_ID, **headers)


class Messages(Dialect):
    sdk = "anthropic"
    model = "anthropic:claude-test"
    key_variable = "ANTHROPIC_API_KEY"
    url_variable = "ANTHROPIC_BASE_URL"

    refused_key = _problem(401, "authentication_error", "invalid x-api-key")
    rate_limited = _problem(429, "rate_limit_error", "This request would exceed your rate limit.", retry_after="20")
    out_of_quota = _problem(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.")
    broken = _problem(500, "api_error", "Internal server error")
    overloaded = _problem(529, "overloaded_error", "Overloaded")
    too_long = _problem(400, "invalid_request_error", "prompt is too long: 201337 tokens > 200000 maximum")

    def opening(self) -> Sequence[bytes]:
        message = {
            "id": "msg_01Xy",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5-20250929",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 12, "output_tokens": 1},
        }
        return [
            _event("message_start", message=message),
            _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            _event("ping"),
        ]

    def delta(self, text: str) -> bytes:
        return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def closing(self, text: str, stop_reason: str = "end_turn") -> Sequence[bytes]:
        return [
            _event("content_block_stop", index=0),
            _event(
                "message_delta",
                delta={"stop_reason": stop_reason, "stop_sequence": None},
                usage={"input_tokens": 12, "output_tokens": 5},
            ),
            _event("message_stop"),
        ]

    def error(self, kind: str) -> bytes:
        return event(_error(kind, "Something went wrong."), "error")

    def failures(self) -> Mapping[str, Failure]:
        return {
            **super().failures(),
            "refusal": Failure(self.stop_early(SO_FAR, reason="refusal"), "content_filtered", SO_FAR),
            "error event": self.reported("api_error", "model_error"),
            "overloaded event": self.reported("overloaded_error", "model_overloaded"),
            "rate limit event": self.reported("rate_limit_error", "model_overloaded"),
            "no last word": Failure(self.break_off(SO_FAR, end=End.whole), "model_disconnected", SO_FAR),
            "half an event": self.odd(_event("message_delta")),
        }

    def stop_early(self, *deltas: str, reason: str) -> Answer:
        return Answer([*self.begin(*deltas), *self.closing("", reason)])


def _event(type: str, **data: Any) -> bytes:
    return event({"type": type, **data}, type)


MESSAGES = Messages()
