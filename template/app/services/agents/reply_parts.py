"""Folds the events of an execution into the parts of the reply that it writes: while it is pending, and at its end."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from app.schemas import reply_event as events
from app.schemas.message import ToolCallState
from app.schemas.reply_event import AgentEvent
from app.services.agents.structured_output import to_json

RESULTS_CHARACTERS, SHORT_CHARACTERS = 100_000, 1_000
"""Limits the results of calls that a message lists, in all; above that each is shortened. Events have them whole."""
NOT_ENDED = "The reply ended before this call did."

_OPEN = (ToolCallState.called, ToolCallState.approval_requested, ToolCallState.result_requested)
_BETWEEN_TEXTS = "\n\n"


class Place(NamedTuple):
    """Tells how far a reader of a reply is: in which part, and in which run of its execution that part was begun.

    `offset` counts the characters of a text; of tool calls, what has happened since the model made them. Data has 1.
    """

    attempt: int = 0
    part: int = 0
    offset: int = 0

    def __str__(self) -> str:
        return ".".join(map(str, self))


class Happened(NamedTuple):
    """Holds an event of a reply with the place after it; for a text that is complete, no event but its part."""

    place: Place
    event: AgentEvent | None = None
    kind: str = "text"
    text: str = ""


class ReplyParts:
    """Holds the parts of a reply, each as it is stored: with the `attempt` in which it was begun."""

    def __init__(self, reply_id: UUID, happened: Iterable[tuple[str, Mapping[str, Any]]] = ()) -> None:
        self.parts: list[dict[str, Any]] = []
        self.attempt = 0
        """Counts the runs of the execution up to the one that asked the model last."""
        self.model: str | None = None
        self.code: str | None = None
        """Names the reason why the model's last answer was cut short, if it was."""
        self._reply_id = reply_id
        self._calls: dict[str, int] = {}
        self._news = 0
        for type, data in happened:
            for _each in self.add(type, data):
                pass

    @property
    def content(self) -> str:
        """Returns the text, in which data is JSON."""
        said = [part for part in self.parts if part["type"] in ("text", "data")]
        return _BETWEEN_TEXTS.join(part["text"] if "text" in part else to_json(part["data"]) for part in said)

    def close(self) -> None:
        """Ends the calls that have not ended, since the reply has, and shortens results of which there are too many."""
        results = sum(len(part.get("result") or "") for part in self.parts)
        for part in self.parts:
            if part.get("state") in _OPEN:
                part.update(state=ToolCallState.failed, result=NOT_ENDED, expires_at=None)
            elif results > RESULTS_CHARACTERS and len(result := part.get("result") or "") > SHORT_CHARACTERS:
                part["result"] = f"{result[:SHORT_CHARACTERS]}\n[The rest is left out.]"

    def add(self, type: str, data: Mapping[str, Any]) -> Iterator[Happened]:
        """Folds an event of the execution, and yields what that is in the reply."""
        match type:
            case "model.started":
                self.attempt, self.model = data.get("attempt", 1), data["model"]
            case "model.completed":
                self.model, self.code = data["model"], data.get("code")
                yield from self._answer(data)
            case "approval.requested":
                yield from self._request_approval(data)
            case "result.requested":
                yield self._request(data, ToolCallState.result_requested, events.ResultRequested)
            case "approval.answered":
                yield from self._answer_approval(data)
            case "tool.returned":
                yield from self._end_call(data, ToolCallState.returned, data["content"])
            case "tool.failed":
                yield from self._end_call(data, ToolCallState.failed, data["detail"])
            case "subagent.started":
                yield from self._start_subagent(data)
            case "subagent.completed":
                yield from self._complete_subagent(data)
            case _:
                pass

    def _answer(self, data: Mapping[str, Any]) -> Iterator[Happened]:
        value, is_valid = data.get("data"), data.get("validation_error") is None
        said = data["text"] if value is None and is_valid else ""
        for kind, text in (("reasoning", data.get("reasoning")), ("text", said)):
            if text:
                self.parts.append({"type": kind, "text": text, "attempt": self.attempt})
                yield Happened(Place(self.attempt, len(self.parts) - 1, len(text)), kind=kind, text=text)
        if value is not None:
            self.parts.append({"type": "data", "data": value, "attempt": self.attempt})
            part = len(self.parts) - 1
            event = events.MessageData(reply_id=self._reply_id, part=part, data=value)
            yield Happened(Place(self.attempt, part, 1), event)
        for call in data["calls"]:
            yield self._call(call)

    def _call(self, call: Mapping[str, Any], execution_id: str | None = None) -> Happened:
        self.parts.append(
            {
                "type": "tool_call",
                "tool_call_id": call["tool_call_id"],
                "name": call["name"],
                "arguments": call["arguments"],
                "state": ToolCallState.called,
                "result": None,
                "expires_at": None,
                "execution_id": execution_id,
                "attempt": self.attempt,
            }
        )
        self._calls[call["tool_call_id"]], self._news = len(self.parts) - 1, 0
        return self._tell(events.ToolCalled, call, name=call["name"], arguments=call["arguments"])

    def _request_approval(self, data: Mapping[str, Any]) -> Iterator[Happened]:
        if data["tool_call_id"] not in self._calls:  # it is a subagent's, which only its approval makes known here
            yield self._call(data, data["of"])
        yield self._request(data, ToolCallState.approval_requested, events.ApprovalRequested)

    def _request(self, data: Mapping[str, Any], state: ToolCallState, kind: Callable[..., AgentEvent]) -> Happened:
        expires_at, part = data["expires_at"], self._part(data)
        part.update(state=state, expires_at=expires_at)
        if state is ToolCallState.result_requested:
            part["is_clients"] = True
        return self._tell(kind, data, name=data["name"], arguments=data["arguments"], expires_at=expires_at)

    def _answer_approval(self, data: Mapping[str, Any]) -> Iterator[Happened]:
        is_denied = not (data["approved"] or data["expired"])
        state = ToolCallState.denied if is_denied else ToolCallState.called
        self._part(data).update(state=state, expires_at=None, result=data["note"] if is_denied else None)
        yield self._tell(
            events.ApprovalAnswered, data, approved=data["approved"], expired=data["expired"], note=data["note"]
        )

    def _end_call(self, data: Mapping[str, Any], state: ToolCallState, result: str) -> Iterator[Happened]:
        part = self._part(data)
        is_denied = part["state"] is ToolCallState.denied
        part.update(state=ToolCallState.denied if is_denied else state, result=result, expires_at=None)
        if state is ToolCallState.returned:
            yield self._tell(events.ToolReturned, data, name=data["name"], content=result)
        else:
            yield self._tell(events.ToolFailed, data, name=data["name"], detail=result, denied=is_denied)

    def _start_subagent(self, data: Mapping[str, Any]) -> Iterator[Happened]:
        self._part(data)["execution_id"] = data["execution"]
        yield self._tell(events.SubagentStarted, data, name=data["name"], execution_id=data["execution"])

    def _complete_subagent(self, data: Mapping[str, Any]) -> Iterator[Happened]:
        is_completed = data["status"] == "completed"
        state = ToolCallState.returned if is_completed else ToolCallState.failed
        for own in self.parts[self._calls[data["tool_call_id"]] + 1 :]:
            if own.get("execution_id") and own["state"] in _OPEN:
                own["state"] = state
        self._part(data).update(state=state, result=data["content"])
        yield self._tell(
            events.SubagentCompleted,
            data,
            name=data["name"],
            execution_id=data["execution"],
            status=data["status"],
            content=data["content"],
        )

    def _part(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return self.parts[self._calls[data["tool_call_id"]]]

    def _tell(self, kind: Callable[..., AgentEvent], data: Mapping[str, Any], **values: Any) -> Happened:
        """Returns an event. What happens to tool calls is counted from the last one on, so that places only grow."""
        self._news += 1
        id = data["tool_call_id"]
        event = kind(reply_id=self._reply_id, part=self._calls[id], tool_call_id=id, **values)
        return Happened(Place(self.attempt, len(self.parts) - 1, self._news), event)
