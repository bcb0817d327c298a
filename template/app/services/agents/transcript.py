"""Rebuilds an execution as a conversation with a model, and tells what comes next in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from app.services.ai import AssistantMessage, ChatMessage, ToolCall, ToolResult, UserMessage


@dataclass(frozen=True, slots=True)
class PendingToolCall:
    """Holds a call that has no result yet. Its own id is unique within the execution; providers' ids need not be."""

    id: str
    call: ToolCall


class Transcript:
    def __init__(
        self,
        input: str,
        entries: Iterable[Mapping[str, Any]] = (),
        *,
        context: Iterable[Mapping[str, Any]] = (),
        prefix: str = "call",
    ) -> None:
        """Goes on after `context`, what was said before the input. Ids of calls begin with `prefix`."""
        self.messages: list[ChatMessage] = [*map(_loaded, context), UserMessage(input)]
        self._before = len(self.messages)
        self._prefix = prefix
        self._calls = 0
        self._pending: list[PendingToolCall] = []
        for entry in entries:
            if not isinstance(message := _loaded(entry), UserMessage):
                self.add(message)

    @property
    def own(self) -> Sequence[ChatMessage]:
        """Returns the messages since the input: those of the model, and the results of its calls."""
        return self.messages[self._before :]

    @property
    def pending(self) -> PendingToolCall | None:
        """Returns the next call to answer; calls are answered one by one, in the order in which the model made them."""
        return self._pending[0] if self._pending else None

    @property
    def answer(self) -> AssistantMessage | None:
        """Returns the final message, once the model calls nothing more."""
        last = self.messages[-1]
        return last if isinstance(last, AssistantMessage) and not last.tool_calls else None

    def add(self, message: AssistantMessage | ToolResult) -> Sequence[PendingToolCall]:
        """Adds a message, and returns the calls that still have no result."""
        if isinstance(message, AssistantMessage):
            numbered = enumerate(message.tool_calls, start=self._calls + 1)
            self._pending = [PendingToolCall(f"{self._prefix}_{number}", call) for number, call in numbered]
            self._calls += len(message.tool_calls)
            self.messages.append(message)
        else:
            answered = self._pending.pop(0)
            self.messages.append(replace(message, call_id=answered.call.id))
        return list(self._pending)


def to_entry(message: ChatMessage) -> dict[str, Any]:
    """Returns the message in the JSON that rows have had since the first release."""
    if isinstance(message, UserMessage):
        return {"user": message.text}
    if isinstance(message, ToolResult):
        return asdict(message)
    calls = [asdict(call) for call in message.tool_calls]
    entry = {"text": message.text, "calls": calls, "raw": message.raw, "code": message.code}
    return {**entry, "reasoning": message.reasoning} if message.reasoning else entry


def _loaded(entry: Mapping[str, Any]) -> ChatMessage:
    if "user" in entry:
        return UserMessage(entry["user"])
    if "calls" not in entry:
        return ToolResult(**entry)
    calls = [ToolCall(**call) for call in entry["calls"]]
    return AssistantMessage(entry["text"], calls, entry["raw"], entry["code"], entry.get("reasoning", ""))
