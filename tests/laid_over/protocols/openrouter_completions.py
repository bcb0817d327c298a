"""Imitates OpenRouter, which speaks OpenAI's Chat Completions and reports errors in its own way."""

from collections.abc import Sequence

import pytest

from tests.protocols.compatible import CHUNK, Completions
from tests.protocols.dialect import KEY, REQUEST_ID, SIGNATURE
from tests.protocols.server import Answer, event, problem

_TOO_LONG = "This endpoint's maximum context length is 8192 tokens. However, you requested about 9000 tokens."


def _error(status: int, message: str) -> dict[str, object]:
    return {"error": {"code": status, "message": f"{message} ({REQUEST_ID})"}}


def _problem(status: int, message: str, **headers: str) -> Answer:
    return problem(status, _error(status, message), **headers)


class OpenRouter(Completions):
    model = "openrouter:openai/gpt-test"
    key_variable = "OPENROUTER_API_KEY"
    new_reasons = ()

    refused_key = _problem(401, "No auth credentials found")
    rate_limited = _problem(429, "Rate limit exceeded", retry_after="20")
    out_of_quota = _problem(402, "Insufficient credits")
    broken = _problem(502, "Provider returned error")
    overloaded = _problem(503, "No available model provider")
    too_long = _problem(400, _TOO_LONG)

    def point_at(self, url: str, patch: pytest.MonkeyPatch) -> None:
        from pydantic_ai.providers.openrouter import OpenRouterProvider

        patch.setenv(self.key_variable, KEY)
        patch.setattr(OpenRouterProvider, "base_url", url + self.url_path)

    def reasoning(self, *pieces: str) -> Sequence[bytes]:
        detail = {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1"}
        shown = [{"reasoning": piece, "reasoning_details": [{**detail, "text": piece}]} for piece in pieces]
        signed = {"reasoning_details": [{**detail, "signature": SIGNATURE}]}
        return [self.chunk(delta) for delta in (*shown, signed)]

    def error(self, kind: str) -> bytes:
        status, message = {
            "server_error": (502, "Provider returned error"),
            "rate_limit_exceeded": (429, "Rate limit exceeded"),
            "context_length_exceeded": (400, _TOO_LONG),
        }[kind]
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error"}
        return event({**CHUNK, **_error(status, message), "choices": [choice]})


OPENROUTER = OpenRouter()
