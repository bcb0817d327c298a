"""OpenAI's Chat Completions API, which `openai-chat:` models and most other providers speak."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.protocols.dialect import REQUEST_ID, Failure
from tests.protocols.openai_responses import OpenAIDialect
from tests.protocols.server import Answer, event

_DONE = b"data: [DONE]\n\n"


class ChatCompletions(OpenAIDialect):
    model = "openai-chat:gpt-5-test"

    def opening(self) -> Sequence[bytes]:
        return [_chunk({"role": "assistant", "content": "", "refusal": None})]

    def delta(self, text: str) -> bytes:
        return _chunk({"content": text})

    def closing(self, text: str) -> Sequence[bytes]:
        usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
        return [_chunk({}, "stop"), event({**_CHUNK, "choices": [], "usage": usage}), _DONE]

    def error(self, kind: str) -> bytes:
        message = f"Something went wrong ({REQUEST_ID})."
        return event({"error": {"message": message, "type": kind, "param": None, "code": kind}})

    def failures(self) -> Mapping[str, Failure]:
        return {**super().failures(), "no list of choices": self.odd(event({**_CHUNK, "choices": 7}))}

    def refuse(self, words: str) -> Answer:
        return Answer([*self.opening(), _chunk({"refusal": words}), _chunk({}, "stop"), _DONE])

    def stop_early(self, *deltas: str, reason: str) -> Answer:
        return Answer([*self.begin(*deltas), _chunk({}, reason), _DONE])


_CHUNK: Mapping[str, Any] = {
    "id": "chatcmpl-68f1",
    "object": "chat.completion.chunk",
    "created": 1_760_000_000,
    "model": "gpt-5-mini-2025-08-07",
    "system_fingerprint": None,
    "usage": None,
}


def _chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return event({**_CHUNK, "choices": [choice]})


CHAT_COMPLETIONS = ChatCompletions()
