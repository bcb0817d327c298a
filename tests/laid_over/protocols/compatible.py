"""Shares what OpenAI's protocols, and those that resemble them, have in common: how a request is refused."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from tests.protocols.dialect import INPUT_TOKENS, OUTPUT_TOKENS, REQUEST_ID, SECRET, Call, Dialect, Failure, Sent
from tests.protocols.server import Answer, Request, event, problem


def openai_problem(status: int, message: str, type: str, code: str | None, **headers: str) -> Answer:
    error = {"message": f"{message} (request {REQUEST_ID})", "type": type, "param": None, "code": code}
    return problem(status, {"error": error}, x_request_id=REQUEST_ID, **headers)


def bearer_of(request: Request) -> str:
    return request.headers["authorization"].removeprefix("Bearer ")


class OpenAIDialect(Dialect):
    sdk = "openai"

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

    @abstractmethod
    def error(self, kind: str) -> bytes:
        """Returns an event that reports an error inside an open stream."""

    def failures(self) -> Mapping[str, Failure]:
        return {
            **super().failures(),
            "error event": self.interrupted(self.error("server_error"), "model_unavailable"),
            "rate limit event": self.interrupted(self.error("rate_limit_exceeded"), "model_overloaded"),
            "context too long event": self.interrupted(self.error("context_length_exceeded"), "context_too_long"),
        }


class OwnDialect(OpenAIDialect):
    """Shares what OpenAI's own two protocols have in common."""

    key_variable = "OPENAI_API_KEY"
    url_variable = "OPENAI_BASE_URL"
    url_path = "/v1"
    cost = Decimal("0.000013")
    flagged = openai_problem(400, "Your prompt was flagged.", "invalid_request_error", "invalid_prompt")

    @abstractmethod
    def refuse(self, words: str) -> Answer:
        """Declines in words that are a refusal, and not the text of a reply."""

    def failures(self) -> Mapping[str, Failure]:
        return {
            **super().failures(),
            "prompt flagged": Failure(self.flagged, "content_filtered"),
            "refusal": Failure(self.refuse(f"No {SECRET}."), "refused"),
            "no object": self.odd(b"data: null\n\n"),
        }


class Completions(OpenAIDialect):
    """Imitates Chat Completions, which most providers speak."""

    url_path = "/v1"
    path = "/v1/chat/completions"
    reasoning_field = "reasoning"
    done = b"data: [DONE]\n\n"

    def sent(self, request: Request) -> Sent:
        system, *lines = request.body["messages"]
        assert system["role"] == "system"
        said = [(line["role"], line["content"]) for line in lines]
        return Sent(request.path, bearer_of(request), request.body["model"], system["content"], said)

    def opening(self) -> Sequence[bytes]:
        return [self.chunk({"role": "assistant", "content": ""})]

    def delta(self, text: str) -> bytes:
        return self.chunk({"content": text})

    def closing(self, text: str, reason: str | None = None) -> Sequence[bytes]:
        return [self.chunk({}, reason or "stop"), self.usage(), self.done]

    def calling(self, text: str, *calls: Call) -> Sequence[bytes]:
        said = [self.delta(text)] if text else []
        called = [self.chunk({"tool_calls": [part]}) for n, call in enumerate(calls) for part in _parts(n, call)]
        return [*self.opening(), *said, *called, *self.closing(text, "tool_calls")]

    def reasoning(self, *pieces: str) -> Sequence[bytes]:
        return [self.chunk({self.reasoning_field: piece}) for piece in pieces]

    def error(self, kind: str) -> bytes:
        message = f"Something went wrong ({REQUEST_ID})."
        return event({"error": {"message": message, "type": kind, "param": None, "code": kind}})

    def chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event({**CHUNK, "choices": [choice], **more})

    def usage(self) -> bytes:
        return event({**CHUNK, "choices": [], "usage": USAGE})

    def failures(self) -> Mapping[str, Failure]:
        return {**super().failures(), "no list of choices": self.odd(event({**CHUNK, "choices": 7}))}


def _parts(index: int, call: Call) -> Sequence[Mapping[str, Any]]:
    start = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
    return [start, *({"index": index, "function": {"arguments": piece}} for piece in call.pieces)]


CHUNK: Mapping[str, Any] = {
    "id": "chatcmpl-68f1",
    "object": "chat.completion.chunk",
    "created": 1_760_000_000,
    "model": "gpt-5-mini-2025-08-07",
    "system_fingerprint": None,
}
USAGE = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}
