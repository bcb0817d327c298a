"""Rebuilds an execution as a conversation with a model, and tells what comes next in it."""

from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic_core import from_json

from app.services.ai import AssistantMessage, ChatMessage, Image, ToolCall, ToolResult, UserMessage

_AGAIN = "Answer again, with nothing but a JSON object that fits the schema."


@dataclass(frozen=True, slots=True)
class PendingToolCall:
    """Holds a call that has no result yet. Its own id is unique within the execution; providers' ids need not be."""

    id: str
    call: ToolCall
    number: int
    """Counts the calls of the execution."""
    is_for_client: bool
    """Tells whether a client runs the tool, which then gets an object of arguments."""


@dataclass(frozen=True, slots=True)
class InvalidAnswer(AssistantMessage):
    """Holds an answer that does not fit the agent's output schema, and the sentence that tells the model why."""

    validation_error: str = ""


class Transcript:
    def __init__(
        self,
        input: str,
        entries: Iterable[Mapping[str, Any]] = (),
        *,
        context: Iterable[Mapping[str, Any]] = (),
        prefix: str = "call",
        client_tools: Collection[str] = (),
    ) -> None:
        """Goes on after `context`, what was said before the input. Ids of calls begin with `prefix`.

        `client_tools` names the tools that the client runs. Without an input, the context ends with what is to be
        answered.
        """
        self.messages: list[ChatMessage] = list(map(_loaded, context))
        if self.messages and isinstance(last := self.messages[-1], UserMessage):  # some models take no two of a user
            self.messages.pop()
            self.messages.append(UserMessage("\n\n".join(filter(None, [last.text, input])), last.images))
        elif input or not self.messages:
            self.messages.append(UserMessage(input))
        self._before = len(self.messages)
        self._prefix = prefix
        self._client_tools = client_tools
        self._calls = 0
        self._pending: list[PendingToolCall] = []
        self._answered: list[int] = []
        """Holds the numbers of the calls of the last message that have results."""
        self.invalid_answers: list[InvalidAnswer] = []
        for entry in entries:
            if not isinstance(message := _loaded(entry), UserMessage):
                self.add(message)

    @property
    def own(self) -> Sequence[ChatMessage]:
        """Returns the messages since the input: those of the model that count, and the results of its calls."""
        since = self.messages[self._before :]
        return [message for message in since if not isinstance(message, InvalidAnswer | UserMessage)]

    @property
    def pending(self) -> Sequence[PendingToolCall]:
        """Returns the calls without results, in the order in which they get them: the client's after the others."""
        return self._pending

    @property
    def answer(self) -> AssistantMessage | None:
        """Returns the final message, once the model calls nothing more."""
        last = self.messages[-1]
        return last if isinstance(last, AssistantMessage) and not last.tool_calls else None

    def add(self, message: AssistantMessage | ToolResult) -> Sequence[PendingToolCall]:
        """Adds a message, and returns the calls that still have no result, in the order in which they were made."""
        if isinstance(message, AssistantMessage):
            numbered = enumerate(message.tool_calls, start=self._calls + 1)
            calls = (self._pend(number, call) for number, call in numbered)
            self._pending = sorted(calls, key=lambda pending: pending.is_for_client)
            self._answered = []
            self._calls += len(message.tool_calls)
            self.messages.append(message)
            if isinstance(message, InvalidAnswer):
                self.invalid_answers.append(message)
                self.messages.append(UserMessage(f"{message.validation_error} {_AGAIN}"))
        else:
            answered = self._answered_by(message)
            self._pending.remove(answered)
            # Providers get results in the order of the calls.
            later = sum(number > answered.number for number in self._answered)
            self.messages.insert(len(self.messages) - later, replace(message, call_id=answered.call.id))
            self._answered.append(answered.number)
        return sorted(self._pending, key=lambda pending: pending.number)

    def _answered_by(self, result: ToolResult) -> PendingToolCall:
        """Returns the client's call that a result names, since one may have none, or else the next one."""
        named = (call for call in self._pending if call.is_for_client and call.id == result.call_id)
        return next(named, self._pending[0])

    def _pend(self, number: int, call: ToolCall) -> PendingToolCall:
        is_for_client = call.name in self._client_tools and _is_object(call.arguments)
        return PendingToolCall(f"{self._prefix}_{number}", call, number, is_for_client)


def to_entry(message: ChatMessage) -> dict[str, Any]:
    """Returns the message in the JSON that rows have had since the first release."""
    if isinstance(message, UserMessage):
        entry = {"user": message.text}
        if message.images:
            images = [{"media_type": each.media_type, "data": b64encode(each.data).decode()} for each in message.images]
            return {**entry, "images": images}
        return entry
    if isinstance(message, ToolResult):
        return asdict(message)
    calls = [asdict(call) for call in message.tool_calls]
    entry: dict[str, Any] = {"text": message.text, "calls": calls, "raw": message.raw, "code": message.code}
    if message.reasoning:
        entry["reasoning"] = message.reasoning
    if isinstance(message, InvalidAnswer):
        entry["validation_error"] = message.validation_error
    return entry


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(from_json(arguments), dict)
    except ValueError:
        return False


def _loaded(entry: Mapping[str, Any]) -> ChatMessage:
    if "user" in entry:
        images = (Image(each["media_type"], b64decode(each["data"])) for each in entry.get("images", ()))
        return UserMessage(entry["user"], tuple(images))
    if "calls" not in entry:
        return ToolResult(**entry)
    calls = [ToolCall(**call) for call in entry["calls"]]
    known = (entry["text"], calls, entry["raw"], entry["code"], entry.get("reasoning", ""))
    if "validation_error" in entry:
        return InvalidAnswer(*known, entry["validation_error"])
    return AssistantMessage(*known)
