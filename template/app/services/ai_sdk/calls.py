"""Writes what happens to tool calls, in the order in which clients understand it.

A client sends its answers once all calls of the last step have one. So each call is told when it is its turn, and not
before: calls that come after one that waits would wait in the client for ever.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import from_json

from app.schemas import reply_event as events
from app.schemas.message import MessageRead, ToolCallPart, ToolCallState
from app.schemas.reply_event import CallEvent
from app.services.ai_sdk.steps import Steps, to_event
from app.services.chat.writers import Pause

WAITING = (ToolCallState.approval_requested, ToolCallState.result_requested)
ENDED = (ToolCallState.returned, ToolCallState.failed, ToolCallState.denied)


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    input: Any
    is_clients: bool
    """Tells whether the client runs it, which then is told of it once the service waits for its result."""
    state: Literal["held", "told", "ended"] = "held"


class CallWriter:
    def __init__(
        self, steps: Steps, client_tools: Collection[str], pause: Pause | None, known: Collection[str]
    ) -> None:
        """Takes the calls up to a pause from which a client goes on, and the ids of those that the client knows."""
        self._steps = steps
        self._client_tools = client_tools
        self._calls: dict[str, _Call] = {}
        for part in pause.calls if pause else ():
            call = self._add(part.tool_call_id, part.name, part.arguments)
            if part.state in ENDED:
                call.state = "ended"
            elif call.id in known:
                call.state = "told"

    def write(self, event: CallEvent) -> Iterator[bytes]:
        id, part = event.tool_call_id, event.part
        match event:
            case events.ToolCalled(name=name, arguments=arguments):
                yield from self._begin(id, name, arguments, part)
            case events.ApprovalRequested():
                yield from self._tell(self._calls[id], part)
                yield to_event({"type": "tool-approval-request", "approvalId": id, "toolCallId": id})
            case events.ResultRequested():
                yield from self._tell(self._calls[id], part)
            case events.ApprovalAnswered(approved=approved, expired=expired, note=note):
                answer = {"type": "tool-approval-response", "approvalId": id, "approved": approved}
                yield to_event(answer | ({"reason": note} if note else {}))
                if not (approved or expired):
                    yield from self._end(id, part, to_event({"type": "tool-output-denied", "toolCallId": id}))
            case events.ToolReturned(content=content):
                yield from self._return(id, part, read_json(content) if self._calls[id].is_clients else content)
            case events.ToolFailed(detail=detail):
                yield from self._fail(id, part, detail)
            case events.SubagentCompleted(content=content, status=status):
                yield from self._end_subagent(id, part, content, is_completed=status == "completed")
            case _:
                pass

    def tell_waiting(self, message: MessageRead) -> Iterator[bytes]:
        """Tells all calls for whose results the reply waits."""
        for number, part in enumerate(message.parts):
            if isinstance(part, ToolCallPart) and part.state is ToolCallState.result_requested:
                yield from self._tell(self._calls[part.tool_call_id], number)

    def end_all(self, message: MessageRead) -> Iterator[bytes]:
        """Ends the calls that the reply has ended before they did."""
        results = {part.tool_call_id: part.result for part in message.parts if isinstance(part, ToolCallPart)}
        for number, call in enumerate(self._calls.values()):
            if call.state != "ended" and call.id in results:
                yield from self._fail(call.id, number, results[call.id] or "", goes_on=False)

    def _add(self, id: str, name: str, arguments: str) -> _Call:
        self._calls[id] = call = _Call(id, name, read_json(arguments), name in self._client_tools)
        return call

    def _begin(self, id: str, name: str, arguments: str, part: int) -> Iterator[bytes]:
        """Adds a call, and tells it at once if none comes before it."""
        before = [call.state for call in self._calls.values()]
        if self._steps.has_calls and not {"held", "told"} & set(before):
            yield from self._steps.leave()  # the model has answered anew
        call = self._add(id, name, arguments)
        if "told" not in before and not call.is_clients:
            yield from self._tell(call, part)

    def _tell(self, call: _Call, part: int) -> Iterator[bytes]:
        """Tells a call that is not told yet. That of a subagent has a step of its own, as its agent's call waits."""
        if call.state != "held":
            return
        if not call.is_clients and any(other.state == "told" for other in self._calls.values()):
            yield from self._steps.leave()
        yield from self._steps.enter(part, with_call=True)
        call.state = "told"
        told = {"type": "tool-input-available", "toolCallId": call.id, "toolName": call.name, "input": call.input}
        yield to_event(told if call.is_clients else {**told, "dynamic": True, "providerExecuted": True})

    def _return(self, id: str, part: int, output: Any) -> Iterator[bytes]:
        yield from self._end(id, part, to_event({"type": "tool-output-available", "toolCallId": id, "output": output}))

    def _fail(self, id: str, part: int, sentence: str, *, goes_on: bool = True) -> Iterator[bytes]:
        failed = to_event({"type": "tool-output-error", "toolCallId": id, "errorText": sentence})
        yield from self._end(id, part, failed, goes_on=goes_on)

    def _end(self, id: str, part: int, chunk: bytes, *, goes_on: bool = True) -> Iterator[bytes]:
        """Tells how a call has ended, and then the one whose turn it is."""
        call = self._calls[id]
        if call.state == "ended":
            return
        yield from self._tell(call, part)
        call.state = "ended"
        yield chunk
        open_calls = [call for call in self._calls.values() if call.state != "ended" and not call.is_clients]
        if goes_on and open_calls and open_calls[0].state == "held":
            yield from self._tell(open_calls[0], part)

    def _end_subagent(self, id: str, part: int, content: str, *, is_completed: bool) -> Iterator[bytes]:
        """Ends the call of an agent, and calls of the subagent that asked for approval, of which no end is told."""
        own = [call.id for call in self._calls.values() if call.state == "told" and call.id != id]
        for ended in (*own, id):
            if is_completed:
                yield from self._return(ended, part, content if ended == id else None)
            else:
                yield from self._fail(ended, part, content)


def waiting_ids(message: MessageRead) -> set[str]:
    """Returns the ids of the tool calls for which a reply waits."""
    return {part.tool_call_id for part in message.parts if isinstance(part, ToolCallPart) and part.state in WAITING}


def read_json(text: str) -> Any:
    """Returns the JSON that a text holds, or else the text."""
    try:
        return from_json(text)
    except ValueError:
        return text
