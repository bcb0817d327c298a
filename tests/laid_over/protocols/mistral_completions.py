"""Imitates Mistral, which has an SDK of its own and a protocol that resembles OpenAI's Chat Completions."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.protocols.compatible import bearer_of
from tests.protocols.dialect import INPUT_TOKENS, KEY, OUTPUT_TOKENS, REQUEST_ID, Call, Dialect, Sent
from tests.protocols.server import Answer, Request, event, problem

_USAGE = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


def _problem(status: int, type: str, message: str, **headers: str) -> Answer:
    return problem(status, {"object": "error", "message": f"{message} ({REQUEST_ID})", "type": type}, **headers)


class Mistral(Dialect):
    sdk = "mistralai"
    model = "mistral:mistral-test"
    path = "/v1/chat/completions"
    key_variable = "MISTRAL_API_KEY"
    stop_reasons = ("length", "model_length")
    filter_reason = None
    keeps_connections = False

    refused_key = _problem(401, "unauthorized", "Unauthorized")
    rate_limited = _problem(429, "rate_limited", "Rate limit exceeded", retry_after="20")
    broken = _problem(500, "internal_server_error", "Internal server error")
    overloaded = _problem(503, "unavailable", "Overloaded")

    def point_at(self, url: str, patch: pytest.MonkeyPatch) -> None:
        from mistralai.client import sdkconfiguration

        patch.setenv(self.key_variable, KEY)
        patch.setitem(sdkconfiguration.SERVERS, sdkconfiguration.SERVER_GLOBAL, url)

    def sent(self, request: Request) -> Sent:
        system, *lines = request.body["messages"]
        said = [(line["role"], _text(line["content"])) for line in lines]
        return Sent(request.path, bearer_of(request), request.body["model"], system["content"], said)

    def opening(self) -> Sequence[bytes]:
        return [_chunk({"role": "assistant", "content": ""})]

    def delta(self, text: str) -> bytes:
        return _chunk({"content": text})

    def closing(self, text: str, reason: str | None = None) -> Sequence[bytes]:
        return [_chunk({"content": ""}, reason or "stop", usage=_USAGE), b"data: [DONE]\n\n"]

    def calling(self, text: str, *calls: Call) -> Sequence[bytes]:
        said = [self.delta(text)] if text else []
        called = [_chunk({"tool_calls": [part]}) for n, call in enumerate(calls) for part in _parts(n, call)]
        return [*self.opening(), *said, *called, *self.closing(text, "tool_calls")]

    def reasoning(self, *pieces: str) -> Sequence[bytes]:
        thoughts = [{"type": "thinking", "thinking": [{"type": "text", "text": piece}]} for piece in pieces]
        return [_chunk({"content": [thought]}) for thought in thoughts]


def _parts(index: int, call: Call) -> Sequence[Mapping[str, Any]]:
    start = {"index": index, "id": call.id, "function": {"name": call.name, "arguments": ""}}
    rest = [{"index": index, "function": {"name": "", "arguments": piece}} for piece in call.pieces]
    return [start, *rest]


def _text(content: str | Sequence[Mapping[str, str]]) -> str:
    return content if isinstance(content, str) else content[0]["text"]


def _chunk(delta: Mapping[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event({"id": "cmpl-68f1", "created": 1_760_000_000, "model": "mistral-small", "choices": [choice], **more})


MISTRAL = Mistral()
