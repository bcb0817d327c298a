"""Imitates Amazon Bedrock's ConverseStream, in the binary frames of AWS's event streams."""

import json
import struct
from binascii import crc32
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest

from tests.protocols.dialect import (
    INPUT_TOKENS,
    KEY,
    OUTPUT_TOKENS,
    REQUEST_ID,
    SECRET,
    SIGNATURE,
    Call,
    Dialect,
    Failure,
    Sent,
)
from tests.protocols.server import Answer, End, Request, problem

_STREAM = {"content-type": "application/vnd.amazon.eventstream"}


def _frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Packs the total and the header length, their checksum, headers, payload, and the checksum of all that."""
    packed = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", len(packed) + len(payload) + 16, len(packed))
    message = prelude + struct.pack(">I", crc32(prelude)) + packed + payload
    return message + struct.pack(">I", crc32(message))


def _event(type: str, data: Mapping[str, Any]) -> bytes:
    headers = {":event-type": type, ":content-type": "application/json", ":message-type": "event"}
    return _frame(headers, json.dumps(data).encode())


def _exception(type: str) -> bytes:
    headers = {":exception-type": type, ":content-type": "application/json", ":message-type": "exception"}
    return _frame(headers, json.dumps({"message": f"Something went wrong ({REQUEST_ID})."}).encode())


def _problem(status: int, type: str, message: str, **headers: str) -> Answer:
    return problem(status, {"message": f"{message} ({REQUEST_ID})"}, x_amzn_errortype=type, **headers)


class Converse(Dialect):
    sdk = "boto3"
    model = "bedrock:anthropic.claude-test-v1:0"
    path = "/model/anthropic.claude-test-v1:0/converse-stream"
    key_variable = "AWS_ACCESS_KEY_ID"  # the SDK sends a bearer token only over TLS
    url_variable = "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"
    stop_reasons = ("max_tokens", "model_context_window_exceeded")
    filter_reason = "content_filtered"

    refused_key = _problem(403, "UnrecognizedClientException", "The security token is invalid.")
    rate_limited = _problem(429, "ThrottlingException", "Too many requests.", retry_after="20")
    out_of_quota = _problem(400, "ServiceQuotaExceededException", "Your request exceeds the quota.")
    broken = _problem(500, "InternalServerException", "Internal server error.")
    overloaded = _problem(503, "ServiceUnavailableException", "Service unavailable.")
    too_long = _problem(400, "ValidationException", "Input is too long for requested model.")
    has_own_retries = True
    blocks_threads = True
    closes_connections = False
    odd_frames: ClassVar = {"a wrong checksum": _event("contentBlockDelta", {})[:-1] + b"!"}

    def point_at(self, url: str, patch: pytest.MonkeyPatch) -> None:
        super().point_at(url, patch)
        patch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def sent(self, request: Request) -> Sent:
        path = unquote(request.path)
        said = [(line["role"], line["content"][0]["text"]) for line in request.body["messages"]]
        [system] = request.body["system"]
        key = request.headers["authorization"].partition("Credential=")[2].partition("/")[0]
        return Sent(path, key, path.split("/")[2], system["text"], said)

    def opening(self) -> Sequence[bytes]:
        return [_event("messageStart", {"role": "assistant"})]

    def delta(self, text: str) -> bytes:
        return _event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})

    def closing(self, text: str, reason: str | None = None) -> Sequence[bytes]:
        usage = {
            "inputTokens": INPUT_TOKENS,
            "outputTokens": OUTPUT_TOKENS,
            "totalTokens": INPUT_TOKENS + OUTPUT_TOKENS,
        }
        return [
            _event("contentBlockStop", {"contentBlockIndex": 0}),
            _event("messageStop", {"stopReason": reason or "end_turn"}),
            _event("metadata", {"usage": usage, "metrics": {"latencyMs": 7}}),
        ]

    def calling(self, text: str, *calls: Call) -> Sequence[bytes]:
        stop_text, *end = self.closing(text, "tool_use")
        said = [self.delta(text), stop_text] if text else []
        called = [frame for number, call in enumerate(calls, 1) for frame in _call(number, call)]
        return [*self.opening(), *said, *called, *end]

    def reasoning(self, *pieces: str) -> Sequence[bytes]:
        deltas = [*({"text": piece} for piece in pieces), {"signature": SIGNATURE}]
        return [
            *(_event("contentBlockDelta", {"contentBlockIndex": 6, "delta": {"reasoningContent": d}}) for d in deltas),
            _event("contentBlockStop", {"contentBlockIndex": 6}),
        ]

    def answer(self, frames: Sequence[Any], end: End = End.whole) -> Answer:
        return Answer(frames, headers=_STREAM, end=end)

    def failures(self) -> Mapping[str, Failure]:
        return {
            **super().failures(),
            "guardrail": Failure(self.speak(SECRET, reason="guardrail_intervened"), "content_filtered", SECRET),
            "throttled event": self.interrupted(_exception("throttlingException"), "model_overloaded"),
            "error event": self.interrupted(_exception("internalServerException"), "model_unavailable"),
        }


def _call(index: int, call: Call) -> Sequence[bytes]:
    start = {"toolUse": {"toolUseId": call.id, "name": call.name}}
    deltas = [{"toolUse": {"input": piece}} for piece in call.pieces]
    return [
        _event("contentBlockStart", {"contentBlockIndex": index, "start": start}),
        *(_event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}) for delta in deltas),
        _event("contentBlockStop", {"contentBlockIndex": index}),
    ]


CONVERSE = Converse()
