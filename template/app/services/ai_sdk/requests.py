"""Reads what a chat of the AI SDK wants: the end of its messages says it, the rest the service knows itself."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from app.core.errors import Conflict, Invalid, NotFound
from app.core.text import storable
from app.schemas.ai_sdk import ChatRequest
from app.schemas.client_tool import ToolResultCreate, ToolResultsCreate
from app.schemas.message import (
    ApprovalAnswer,
    MessageCreate,
    MessageRead,
    RegenerateCreate,
    ToolCallPart,
    ToolCallState,
)
from app.services.ai.json_values import to_array, to_object, to_text
from app.services.ai_sdk.calls import waiting_ids
from app.services.chat.messages import Thread

_ASKED = ("agent_id", "model", "reasoning_effort", "tools")

Message = Mapping[str, Any]


class NothingAsked(Conflict):
    code = "nothing_asked"


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces a first message, or the one with this id, if the service knows it."""

    message: MessageCreate
    conversation_id: UUID
    named: UUID | None


@dataclass(frozen=True, slots=True)
class Regeneration:
    """Asks for another answer to a message."""

    data: RegenerateCreate
    named: UUID | None
    """Identifies that answer or the message, if the client names one that it has from this service."""
    is_reply: bool
    """Tells whether it can be that answer."""
    message: MessageCreate | None
    """Holds the message as the client has it, which the service may never have got."""
    parent_id: UUID | None
    """Identifies the reply that it follows; None for a first message."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """Holds what a client says of the tool calls of a reply that waits."""

    reply_id: UUID
    calls: Mapping[str, Message] = field(default_factory=dict[str, Message])
    """Holds the parts that are tool calls, by their ids."""

    def answers(self, reply: MessageRead) -> tuple[Sequence[ApprovalAnswer], ToolResultsCreate | None]:
        """Returns what the reply waits for; the rest is what it knows, or what nobody has asked.

        Raises Invalid, and NothingAsked when the reply waits, but not for anything of this.
        """
        try:
            approvals = [_approval(id, part) for id, part in self._of(reply, ToolCallState.approval_requested)]
            results = [_result(id, part) for id, part in self._of(reply, ToolCallState.result_requested)]
            given = [one for one in approvals if one], [one for one in results if one]
            if not any(given) and waiting_ids(reply) & self.calls.keys():
                raise NothingAsked("The reply waits, and this answers none of the tool calls for which it does.")
            return given[0], ToolResultsCreate(results=given[1]) if given[1] else None
        except ValidationError as error:
            raise Invalid(f"The answer to a tool call is refused: {error.errors()[0]['msg']}.") from None

    def _of(self, reply: MessageRead, state: ToolCallState) -> Sequence[tuple[str, Message]]:
        asked = [part.tool_call_id for part in reply.parts if isinstance(part, ToolCallPart) and part.state is state]
        return [(id, self.calls[id]) for id in asked if id in self.calls]


Request = MessageCreate | Edit | Regeneration | Continuation


def read_request(data: ChatRequest, thread: Thread | None) -> Request:
    """Returns what is wanted of a conversation, or of a new one. Raises Invalid, NotFound."""
    messages = [to_object(message) for message in data.messages]
    *before, last = messages
    asked = {name: getattr(data, name) for name in _ASKED if name in data.model_fields_set}
    if data.trigger == "regenerate-message":
        return _regeneration(data, thread, before, last, asked)
    named = next((message for message in messages if message.get("id") == data.messageId), last)
    if named.get("role") == "assistant":
        return _continuation(named)
    message = _message(last, thread, before, asked)
    if data.messageId is not None and thread is not None and thread.last_id and not _reply_id(before, thread):
        return Edit(message, thread.conversation_id, _to_id(data.messageId))
    return message


def _regeneration(
    data: ChatRequest, thread: Thread | None, before: Sequence[Message], last: Message, asked: Mapping[str, Any]
) -> Request:
    is_user, named = last.get("role") == "user", _to_id(data.messageId)
    if thread is None or not (is_user or named):
        return _message(last, thread, before, asked)
    message = _message(last, thread, before, asked) if is_user else None
    is_reply = not (is_user and last.get("id") == data.messageId)
    return Regeneration(RegenerateCreate(**asked), named, is_reply, message, _reply_id(before, thread))


def _message(
    message: Message, thread: Thread | None, before: Sequence[Message], asked: Mapping[str, Any]
) -> MessageCreate:
    """Returns a message of the user, which follows the last reply before it."""
    if message.get("role") != "user":
        raise Invalid("The last message must be of the role user, or of the role assistant with answers to tool calls.")
    parent_id = _reply_id(before, thread)
    if thread is None or parent_id == thread.last_id:
        parent_id = None
    try:
        id = thread and thread.conversation_id
        return MessageCreate(content=_text(message), conversation_id=id, parent_id=parent_id, **asked)
    except ValidationError as error:
        raise Invalid(f"The message is refused: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None


def _reply_id(before: Sequence[Message], thread: Thread | None) -> UUID | None:
    """Returns the id of the last reply of these messages. Raises NotFound if its conversation does not exist.

    What has no id of this service is the client's own, such as a greeting.
    """
    ids = [_to_id(message.get("id")) for message in before if message.get("role") == "assistant"]
    replies = [id for id in ids if id is not None]
    if replies and thread is None:
        raise NotFound("Message", replies[-1])
    return replies[-1] if replies else None


def _continuation(message: Message) -> Continuation:
    reply_id = _to_id(message.get("id"))
    if reply_id is None:
        raise NotFound("Reply", storable(to_text(message.get("id")))[:100])
    parts = map(to_object, to_array(message.get("parts")))
    return Continuation(reply_id, {id: part for part in parts if (id := to_text(part.get("toolCallId")))})


def _approval(id: str, part: Message) -> ApprovalAnswer | None:
    answer = to_object(part.get("approval"))
    approved, note = answer.get("approved"), to_text(answer.get("reason")).strip()
    if part.get("state") != "approval-responded" or answer.get("id") != id or not isinstance(approved, bool):
        return None
    return ApprovalAnswer(tool_call_id=id, approved=approved, note=note or None)


def _result(id: str, part: Message) -> ToolResultCreate | None:
    match part.get("state"):
        case "output-available":
            output = part.get("output")
            content = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
            return ToolResultCreate(tool_call_id=id, content=content)
        case "output-error":
            return ToolResultCreate(tool_call_id=id, content=to_text(part.get("errorText")), is_error=True)
        case _:
            return None


def _text(message: Message) -> str:
    """Returns the text of a message. Raises Invalid."""
    parts: Collection[Message] = [to_object(part) for part in to_array(message.get("parts"))]
    if any(part.get("type") == "file" for part in parts):
        raise Invalid("A message can have text only; leave out its files.")
    return "\n\n".join(filter(None, (to_text(part.get("text")) for part in parts if part.get("type") == "text")))


def _to_id(value: Any) -> UUID | None:
    try:
        return UUID(to_text(value))
    except ValueError:
        return None
