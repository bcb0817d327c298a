"""Writes the events of a reply as the chunks from which the AI SDK builds a message."""

from collections.abc import Collection, Iterator
from typing import Any

from app.schemas.message import (
    ChatEvent,
    MessageCompleted,
    MessageDelta,
    MessageFailed,
    MessageInterrupted,
    MessageRead,
    MessageStopped,
)
from app.schemas.reply_event import (
    ApprovalRequested,
    CallEvent,
    MessageData,
    MessageRewound,
    ReasoningDelta,
    ResultRequested,
)
from app.services.ai_sdk.calls import CallWriter, waiting_ids
from app.services.ai_sdk.steps import Steps, to_event
from app.services.chat.writers import Pause

ASKS = (ApprovalRequested, ResultRequested)
DONE = b"data: [DONE]\n\n"
HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
RELOAD = "The answer was begun anew by another process: load the conversation again."
STOPPING = "This service stops: resume the stream, which another process continues."
INTERRUPTED = "The answer was interrupted; answer again for all of it."


class ChunkWriter:
    """Writes the chunks of one reply: of all of it, or from a pause on to a client that knows these calls."""

    def __init__(
        self,
        reply: MessageRead,
        client_tools: Collection[str],
        pause: Pause | None = None,
        known: Collection[str] = (),
    ) -> None:
        self.is_over = False
        """Turns true with the last chunk."""
        self.reply_id = reply.id
        self._known = reply.model_dump(mode="json", include={"conversation_id", "agent_id"}, exclude_none=True)
        self._steps = Steps()
        self._calls = CallWriter(self._steps, client_tools, pause, known)

    def begin(self) -> bytes:
        return to_event({"type": "start", "messageId": str(self.reply_id), "messageMetadata": self._known})

    def write(self, event: ChatEvent) -> bytes:
        if type(event) is MessageDelta:  # there are many of them
            return self._steps.say("text", event.part, event.text)
        if type(event) is ReasoningDelta:
            return self._steps.say("reasoning", event.part, event.text)
        return b"".join(self._write(event))

    def wait(self, event: ChatEvent, message: MessageRead) -> bytes:
        """Ends the stream if the reply waits for the answer to this event, and nobody has given it since."""
        if not isinstance(event, ASKS) or event.tool_call_id not in waiting_ids(message):
            return b""
        self.is_over = True
        finished = to_event({"type": "finish", "finishReason": "tool-calls"})
        return b"".join([*self._calls.tell_waiting(message), *self._steps.leave(), finished])

    def fail(self, sentence: str) -> bytes:
        self.is_over = True
        return b"".join([*self._steps.leave(), _error(sentence)])

    def _write(self, event: ChatEvent) -> Iterator[bytes]:
        match event:
            case CallEvent():
                yield from self._calls.write(event)
            case MessageData(part=part, data=data):
                yield from self._steps.enter(part)
                yield to_event({"type": "data-output", "id": str(part), "data": data})
            case MessageRewound(part=part):
                yield self._steps.take_back(part) or self.fail(RELOAD)
            case MessageCompleted() | MessageStopped() | MessageInterrupted() | MessageFailed():
                self.is_over = True
                yield from self._calls.end_all(event.message)
                yield from self._steps.leave()
                yield from self._end(event)
            case _:
                pass

    def _end(self, event: ChatEvent) -> Iterator[bytes]:
        match event:
            case MessageCompleted(message=message):
                yield _finish(message, "length" if message.code == "length" else "stop")
            case MessageStopped(message=message):
                yield to_event({"type": "abort", "reason": "stopped"})
                yield _finish(message, "interrupted")  # so that the client sends nothing by itself
            case MessageInterrupted(message=message):
                yield to_event({"type": "message-metadata", "messageMetadata": describe(message)})
                yield _error(INTERRUPTED)
            case MessageFailed(message=message, detail=detail):
                yield to_event({"type": "message-metadata", "messageMetadata": describe(message)})
                yield _error(detail)
            case _:
                pass


def describe(message: MessageRead) -> dict[str, Any]:
    """Returns what a client is told of a message besides its parts."""
    told = message.model_dump(
        mode="json", include={"conversation_id", "agent_id", "created_at", "status", "code", "usage"}
    )
    return {name: value for name, value in told.items() if value is not None}


def _error(sentence: str) -> bytes:
    return to_event({"type": "error", "errorText": sentence})


def _finish(message: MessageRead, reason: str) -> bytes:
    return to_event({"type": "finish", "finishReason": reason, "messageMetadata": describe(message)})
