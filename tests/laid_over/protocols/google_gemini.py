"""Imitates Google's Gemini API."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.protocols.dialect import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    REQUEST_ID,
    SECRET,
    SIGNATURE,
    Call,
    Dialect,
    Failure,
    Sent,
)
from tests.protocols.server import Answer, Request, event, problem


def _error(status: int, name: str, message: str, *details: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"error": {"code": status, "message": f"{message} ({REQUEST_ID})", "status": name, "details": details}}


def _problem(status: int, name: str, message: str, *details: Mapping[str, Any]) -> Answer:
    return problem(status, _error(status, name, message, *details))


_WAIT = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "20s"}
_DAILY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
}
_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}


class Gemini(Dialect):
    sdk = "google.genai"
    model = "google:gemini-test"
    path = "/v1beta/models/gemini-test:streamGenerateContent?alt=sse"
    key_variable = "GOOGLE_API_KEY"
    url_variable = "GOOGLE_GEMINI_BASE_URL"
    stop_reasons = ("MAX_TOKENS",)
    filter_reason = "SAFETY"
    new_reasons = ()
    writes_arguments = False
    frees_connections = False

    refused_key = _problem(400, "INVALID_ARGUMENT", "API key not valid.", _KEY)
    rate_limited = _problem(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", _WAIT)
    out_of_quota = _problem(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", _DAILY)
    broken = _problem(500, "INTERNAL", "An internal error has occurred.")
    overloaded = _problem(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
    too_long = _problem(
        400,
        "INVALID_ARGUMENT",
        "The input token count (9) exceeds the maximum number of tokens allowed (8).",
    )

    def sent(self, request: Request) -> Sent:
        body = request.body
        roles = {"user": "user", "model": "assistant"}
        said = [(roles[line["role"]], line["parts"][0]["text"]) for line in body["contents"]]
        [system] = body["systemInstruction"]["parts"]
        name = request.path.removeprefix("/v1beta/models/").partition(":")[0]
        return Sent(request.path, request.headers["x-goog-api-key"], name, system["text"], said)

    def opening(self) -> Sequence[bytes]:
        return []

    def delta(self, text: str) -> bytes:
        return _chunk({"content": {"role": "model", "parts": [{"text": text}]}})

    def closing(self, text: str, reason: str | None = None) -> Sequence[bytes]:
        return [_chunk({"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": reason or "STOP"})]

    def calling(self, text: str, *calls: Call) -> Sequence[bytes]:
        return [*([self.delta(text)] if text else []), *map(_call, calls), *self.closing(text)]

    def reasoning(self, *pieces: str) -> Sequence[bytes]:
        return [_chunk({"content": {"role": "model", "parts": [{"text": piece, "thought": True}]}}) for piece in pieces]

    def reason_and_call(self, *pieces: str, call: Call) -> Answer:
        return self.answer([*self.reasoning(*pieces), _call(call, thoughtSignature=SIGNATURE), *self.closing("")])

    def failures(self) -> Mapping[str, Failure]:
        blocked = event({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "modelVersion": "gemini-test"})
        return {
            **super().failures(),
            "prompt blocked": Failure(Answer([blocked]), "content_filtered"),
            "unexpected tool call": Failure(self.speak(SECRET, reason="UNEXPECTED_TOOL_CALL"), "tool_call", SECRET),
            "error event": self.interrupted(event(_error(503, "UNAVAILABLE", "Overloaded.")), "model_overloaded"),
        }


def _call(call: Call, **more: str) -> bytes:
    """Sends the arguments as an object, in one piece."""
    function = {"id": call.id, "name": call.name, "args": json.loads("".join(call.pieces) or "{}")}
    return _chunk({"content": {"role": "model", "parts": [{"functionCall": function, **more}]}})


def _chunk(candidate: Mapping[str, Any]) -> bytes:
    usage = {
        "promptTokenCount": INPUT_TOKENS,
        "candidatesTokenCount": OUTPUT_TOKENS,
        "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    body = {"candidates": [{"index": 0, **candidate}], "modelVersion": "gemini-test", "responseId": "r1"}
    return event({**body, "usageMetadata": usage} if "finishReason" in candidate else body)


GEMINI = Gemini()
