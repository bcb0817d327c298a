"""Turns stored messages into those of the AI SDK, with which a chat begins."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.models.message import MessageStatus
from app.repositories.message import MessageRow
from app.schemas.message import DataPart, MessageRead, ReasoningPart, TextPart, ToolCallPart, ToolCallState
from app.services.ai_sdk.calls import read_json, waiting_ids
from app.services.ai_sdk.chunks import describe


def to_ui_messages(rows: Sequence[MessageRow]) -> list[dict[str, Any]]:
    """Returns the messages but for a reply that is being written, which a stream gives from its beginning."""
    found = [(row, MessageRead.model_validate(row)) for row in rows]
    shown = [(row, message) for row, message in found if message.status != "pending" or waiting_ids(message)]
    return [_to_ui_message(row, message) for row, message in shown]


def _to_ui_message(row: MessageRow, message: MessageRead) -> dict[str, Any]:
    parts = list(_parts(row, message) if message.role == "assistant" else _texts(message))
    return {"id": str(message.id), "role": message.role, "metadata": describe(message), "parts": parts}


def _texts(message: MessageRead) -> Iterator[dict[str, Any]]:
    return ({"type": "text", "text": part.text} for part in message.parts if isinstance(part, TextPart))


def _parts(row: MessageRow, message: MessageRead) -> Iterator[dict[str, Any]]:
    """Yields parts in steps, as a stream gives them: of a reply that waits, not the calls whose turn comes later."""
    is_pending, begins = message.status is MessageStatus.pending, True
    for number, (stored, part) in enumerate(zip(row.parts, message.parts, strict=True)):
        if not isinstance(part, ToolCallPart):
            if begins:
                yield {"type": "step-start"}
            begins = False
            yield _say(number, part)
        elif not is_pending or part.state is not ToolCallState.called or part.execution_id:
            asks_alone = part.state is ToolCallState.approval_requested and part.execution_id
            if number == 0 or asks_alone:
                yield {"type": "step-start"}
            begins = True
            yield _call(stored, part)


def _say(number: int, part: TextPart | ReasoningPart | DataPart) -> dict[str, Any]:
    if isinstance(part, DataPart):
        return {"type": "data-output", "id": str(number), "data": part.data}
    return {"type": part.type, "text": part.text, "state": "done"}


def _call(stored: Mapping[str, Any], part: ToolCallPart) -> dict[str, Any]:
    is_clients = bool(stored.get("is_clients"))
    kind = {"type": f"tool-{part.name}"} if is_clients else {"type": "dynamic-tool", "toolName": part.name}
    call = {**kind, "toolCallId": part.tool_call_id, "input": read_json(part.arguments)}
    if not is_clients:
        call["providerExecuted"] = True
    return call | _state(part, is_clients=is_clients)


def _state(part: ToolCallPart, *, is_clients: bool) -> dict[str, Any]:
    match part.state:
        case ToolCallState.approval_requested:
            return {"state": "approval-requested", "approval": {"id": part.tool_call_id}}
        case ToolCallState.denied:
            reason = {"reason": part.result} if part.result else {}
            return {"state": "output-denied", "approval": {"id": part.tool_call_id, "approved": False, **reason}}
        case ToolCallState.returned:
            return {"state": "output-available", "output": read_json(part.result or "") if is_clients else part.result}
        case ToolCallState.failed:
            return {"state": "output-error", "errorText": part.result or ""}
        case _:
            return {"state": "input-available"}
