"""Imitates Anthropic's Messages API."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from tests.protocols.dialect import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    REQUEST_ID,
    SIGNATURE,
    SO_FAR,
    Call,
    Dialect,
    Failure,
    Sent,
)
from tests.protocols.server import Answer, Request, event, problem


def _error(type: str, message: str) -> Mapping[str, Any]:
    error = {"type": type, "message": f"{message} (request {REQUEST_ID})"}
    return {"type": "error", "error": error, "request_id": REQUEST_ID}


def _problem(status: int, type: str, message: str, **headers: str) -> Answer:
    return problem(status, _error(type, message), request_id=REQUEST_ID, **headers)


class Messages(Dialect):
    sdk = "anthropic"
    model = "anthropic:claude-test"
    path = "/v1/messages"
    cost = Decimal("0.000111")
    stop_reasons = ("max_tokens", "model_context_window_exceeded")
    filter_reason = None
    key_variable = "ANTHROPIC_API_KEY"
    url_variable = "ANTHROPIC_BASE_URL"

    refused_key = _problem(401, "authentication_error", "invalid x-api-key")
    rate_limited = _problem(429, "rate_limit_error", "This request would exceed your rate limit.", retry_after="20")
    out_of_quota = _problem(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.")
    broken = _problem(500, "api_error", "Internal server error")
    overloaded = _problem(529, "overloaded_error", "Overloaded")
    too_long = _problem(400, "invalid_request_error", "prompt is too long: 201337 tokens > 200000 maximum")

    def sent(self, request: Request) -> Sent:
        body = request.body
        [system] = body["system"]
        said = [(line["role"], line["content"][0]["text"]) for line in body["messages"]]
        key = request.headers["authorization"].removeprefix("Bearer ")
        return Sent(request.path, key, body["model"], system["text"], said)

    def opening(self) -> Sequence[bytes]:
        message = {
            "id": "msg_01Xy",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5-20250929",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": 1},
        }
        return [_event("message_start", message=message), *_start(0, type="text", text=""), _event("ping")]

    def delta(self, text: str) -> bytes:
        return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def closing(self, text: str, reason: str | None = None) -> Sequence[bytes]:
        delta = {"stop_reason": reason or "end_turn", "stop_sequence": None}
        usage = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
        return [_stop(0), _event("message_delta", delta=delta, usage=usage), _event("message_stop")]

    def calling(self, text: str, *calls: Call) -> Sequence[bytes]:
        [start, *_], [stop_text, *end] = self.opening(), self.closing(text, "tool_use")
        said = [*self.begin(text)[1:], stop_text] if text else []
        return [start, *said, *(frame for number, call in enumerate(calls, 1) for frame in _call(number, call)), *end]

    def reasoning(self, *pieces: str) -> Sequence[bytes]:
        """Ends with a block of reasoning that is encrypted, and so not shown."""
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
        return [
            *_start(6, type="thinking", thinking="", signature=""),
            *(_event("content_block_delta", index=6, delta=delta) for delta in deltas),
            _event("content_block_delta", index=6, delta={"type": "signature_delta", "signature": SIGNATURE}),
            _stop(6),
            *_start(7, type="redacted_thinking", data=SIGNATURE),
            _stop(7),
        ]

    def error(self, kind: str) -> bytes:
        return event(_error(kind, "Something went wrong."), "error")

    def failures(self) -> Mapping[str, Failure]:
        return {
            **super().failures(),
            "refusal": Failure(self.speak(SO_FAR, reason="refusal"), "refused", SO_FAR),
            "error event": self.interrupted(self.error("api_error"), "model_unavailable"),
            "overloaded event": self.interrupted(self.error("overloaded_error"), "model_overloaded"),
            "rate limit event": self.interrupted(self.error("rate_limit_error"), "model_overloaded"),
            "half an event": self.odd(_event("message_delta")),
        }


def _event(type: str, **data: Any) -> bytes:
    return event({"type": type, **data}, type)


def _start(index: int, **block: Any) -> Sequence[bytes]:
    return [_event("content_block_start", index=index, content_block=block)]


def _stop(index: int) -> bytes:
    return _event("content_block_stop", index=index)


def _call(index: int, call: Call) -> Sequence[bytes]:
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *call.pieces)]
    return [
        *_start(index, type="tool_use", id=call.id, name=call.name, input={}),
        *(_event("content_block_delta", index=index, delta=delta) for delta in deltas),
        _stop(index),
    ]


MESSAGES = Messages()
