"""Imitates OpenAI's Responses API, which `openai:` models speak."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.protocols.compatible import OwnDialect, bearer_of
from tests.protocols.dialect import INPUT_TOKENS, OUTPUT_TOKENS, REQUEST_ID, SIGNATURE, SO_FAR, Call, Failure, Sent
from tests.protocols.server import Answer, Request, event

MORE = "That is all."
"""Holds the second summary of each reasoning."""
_ITEM = "msg_68f1"
_PLACE = {"item_id": _ITEM, "output_index": 0, "content_index": 0}


class Responses(OwnDialect):
    model = "openai:gpt-5-test"
    path = "/v1/responses"
    stop_reasons = ("max_output_tokens",)

    def sent(self, request: Request) -> Sent:
        body = request.body
        said = [(item["role"], item["content"]) for item in body["input"]]
        return Sent(request.path, bearer_of(request), body["model"], body["instructions"], said)

    def opening(self) -> Sequence[bytes]:
        item = {"id": _ITEM, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        return [
            *_BEGUN,
            _event("response.output_item.added", output_index=0, item=item),
            _event("response.content_part.added", **_PLACE, part=_part("")),
        ]

    def delta(self, text: str) -> bytes:
        return _event("response.output_text.delta", **_PLACE, delta=text, logprobs=[], obfuscation="x1y2")

    def closing(self, text: str, reason: str | None = None) -> Sequence[bytes]:
        if reason:
            details = {"reason": reason}
            return [_event("response.incomplete", response=_response("incomplete", incomplete_details=details))]
        item = {"id": _ITEM, "type": "message", "status": "completed", "role": "assistant", "content": [_part(text)]}
        return [
            _event("response.output_text.done", **_PLACE, text=text, logprobs=[]),
            _event("response.content_part.done", **_PLACE, part=_part(text)),
            _event("response.output_item.done", output_index=0, item=item),
            _event("response.completed", response=_response("completed", output=[item])),
        ]

    def calling(self, text: str, *calls: Call) -> Sequence[bytes]:
        *stop_text, end = self.closing(text)
        said = [*self.begin(text), *stop_text] if text else _BEGUN
        return [*said, *(frame for number, call in enumerate(calls, 1) for frame in _call(number, call)), end]

    def reasoning(self, *pieces: str) -> Sequence[bytes]:
        """Shows two summaries; all of the reasoning is there in encrypted form alone."""
        item = {"id": "rs_68f1", "type": "reasoning"}
        summaries = [{"type": "summary_text", "text": text} for text in ("".join(pieces), MORE)]
        frames = [_summary(number, *texts) for number, texts in enumerate((pieces, [MORE]))]
        return [
            _event("response.output_item.added", output_index=0, item={**item, "summary": []}),
            *frames[0],
            *frames[1],
            _event(
                "response.output_item.done",
                output_index=0,
                item={**item, "summary": summaries, "encrypted_content": SIGNATURE},
            ),
        ]

    def error(self, kind: str) -> bytes:
        return _event("error", code=kind, message=f"Something went wrong ({REQUEST_ID}).", param=None)

    def failed(self, error: Mapping[str, str] | None) -> bytes:
        """Reports an error in the other way: the response itself has failed."""
        return _event("response.failed", response=_response("failed", error=error))

    def failures(self) -> Mapping[str, Failure]:
        error = {"code": "server_error", "message": f"Something went wrong ({REQUEST_ID})."}
        return {
            **super().failures(),
            "failed": self.interrupted(self.failed(error), "model_unavailable"),
            "failed without a reason": Failure(Answer([*self.begin(SO_FAR), self.failed(None)]), "model_error", SO_FAR),
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


def _summary(number: int, *pieces: str) -> Sequence[bytes]:
    place = {"item_id": "rs_68f1", "output_index": 0, "summary_index": number}
    whole = {"type": "summary_text", "text": "".join(pieces)}
    return [
        _event("response.reasoning_summary_part.added", **place, part={"type": "summary_text", "text": ""}),
        *(_event("response.reasoning_summary_text.delta", **place, delta=piece) for piece in pieces),
        _event("response.reasoning_summary_text.done", **place, text=whole["text"]),
        _event("response.reasoning_summary_part.done", **place, part=whole),
    ]


def _event(type: str, **data: Any) -> bytes:
    return event({"type": type, "sequence_number": 0, **data}, type)


def _call(index: int, call: Call) -> Sequence[bytes]:
    item = {"id": f"fc_{index}", "type": "function_call", "call_id": call.id, "name": call.name}
    place, whole = {"item_id": item["id"], "output_index": index}, "".join(call.pieces)
    begun, done = (
        {**item, "status": "in_progress", "arguments": ""},
        {**item, "status": "completed", "arguments": whole},
    )
    return [
        _event("response.output_item.added", output_index=index, item=begun),
        *(_event("response.function_call_arguments.delta", **place, delta=piece) for piece in call.pieces),
        _event("response.function_call_arguments.done", **place, name=call.name, arguments=whole),
        _event("response.output_item.done", output_index=index, item=done),
    ]


def _part(text: str) -> Mapping[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _response(status: str, **more: Any) -> Mapping[str, Any]:
    usage = {
        "input_tokens": INPUT_TOKENS,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": OUTPUT_TOKENS,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
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


_BEGUN = [
    _event("response.created", response=_response("in_progress")),
    _event("response.in_progress", response=_response("in_progress")),
]
RESPONSES = Responses()
