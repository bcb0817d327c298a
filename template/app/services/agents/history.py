"""Decides what an agent remembers of a conversation: its own tool calls and their results, or only what was said."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from app.models.message import Role
from app.repositories.conversation import HistoryMessage
from app.services.agents.transcript import Transcript, to_entry
from app.services.ai import (
    TOKENS_PER_PICTURE,
    AssistantMessage,
    ChatMessage,
    ToolCall,
    ToolResult,
    UserMessage,
    estimate_tokens,
    full_name,
)
from app.services.chat.history import begin_with

SHORT_CHARACTERS = 500
"""Limits the results of tools that are shortened so that more of the conversation fits."""
READ_AT_MOST = 4
"""Limits the entries that are read, as a multiple of the tokens that fit: shortened, they may."""

Entries = list[dict[str, Any]]


def keep(messages: Sequence[ChatMessage], max_tokens: int) -> Mapping[str, Any]:
    """Returns the columns of what is kept of a reply besides its text: nothing of one that called no tool.

    What can never fit is shortened, and else left out.
    """
    shortened = list(map(_shortened, messages))
    if any(isinstance(message, ToolResult) for message in messages):
        for kept in (messages, shortened):
            if (tokens := _sum(kept)) <= max_tokens:
                entries = list(map(to_entry, kept))
                return {"entries": entries, "history_tokens": tokens, "shortened_tokens": _sum(shortened)}
    return {}


def complete(transcript: Transcript, sentence: str) -> Sequence[ChatMessage]:
    """Returns the agent's messages, with this sentence for each call without a result: no model takes one without."""
    while pending := transcript.pending:
        call = pending[0].call
        transcript.add(ToolResult(call.id, call.name, sentence))
    return transcript.own


@dataclass(frozen=True, slots=True)
class Memory:
    """Tells which agent remembers, and how much fits. It needs the same tools and the same kind of model for calls."""

    agent_id: UUID
    model_name: str
    tools: Collection[str]
    max_tokens: int

    def choose(self, newest: Iterable[HistoryMessage]) -> Sequence[UUID]:
        """Returns the ids of the messages whose entries are to be read, which is decided by their tokens alone."""
        left, chosen = READ_AT_MOST * self.max_tokens, list[UUID]()
        for message in newest:
            if message.history_tokens is None or not self._knows(message):
                continue
            left -= message.history_tokens
            if left < 0:
                break
            chosen.append(message.id)
        return chosen

    def recall(self, newest: Sequence[HistoryMessage], entries: Mapping[UUID, Entries], summary: str) -> Entries:
        """Returns the history, oldest first. What does not fit goes oldest first: long results, then whole turns."""
        turns = [self._turn(message, entries.get(message.id)) for message in reversed(newest)]
        sizes = [_sum(turn) for turn in turns]
        total, first = sum(sizes), 0
        for number, turn in enumerate(turns):
            if total <= self.max_tokens:
                break
            turns[number] = list(map(_shortened, turn))
            total -= sizes[number] - _sum(turns[number])
            sizes[number] = _sum(turns[number])
        while first < len(turns) and (total > self.max_tokens or not _is_of_user(turns[first])):
            total -= sizes[first]
            first += 1
        messages = [message for turn in turns[first:] for message in turn]
        return list(map(to_entry, begin_with(summary, messages)))

    def _turn(self, message: HistoryMessage, entries: Entries | None) -> Sequence[ChatMessage]:
        if message.role is Role.user:
            return [UserMessage(message.content)]
        if entries is not None:
            own = Transcript("", entries).own
            if {call.name for call in _calls(own)} <= set(self.tools):
                return own
        return [AssistantMessage(message.content)] if message.content.strip() else []

    def _knows(self, message: HistoryMessage) -> bool:
        return message.agent_id == self.agent_id and _family(message.model or "") == _family(self.model_name)


def _family(model: str) -> str:
    """Returns the provider of a model, of whichever of its protocols."""
    return full_name(model).partition(":")[0].partition("-")[0]


def _calls(messages: Iterable[ChatMessage]) -> Iterable[ToolCall]:
    return (call for message in messages if isinstance(message, AssistantMessage) for call in message.tool_calls)


def _is_of_user(turn: Sequence[ChatMessage]) -> bool:
    return bool(turn) and isinstance(turn[0], UserMessage)


def _sum(turn: Iterable[ChatMessage]) -> int:
    return sum(map(_tokens, turn))


def _shortened(message: ChatMessage) -> ChatMessage:
    if not isinstance(message, ToolResult) or len(message.content) <= SHORT_CHARACTERS:
        return message
    return replace(message, content=f"{message.content[:SHORT_CHARACTERS]}\n[The rest is left out.]")


def _tokens(message: ChatMessage) -> int:
    match message:
        case UserMessage(text, images):
            return estimate_tokens(text) + len(images) * TOKENS_PER_PICTURE
        case ToolResult(content=content):
            return estimate_tokens(content)
        case AssistantMessage(raw=str(raw)):
            return estimate_tokens(raw)
        case AssistantMessage(text, calls):
            return estimate_tokens(text) + sum(estimate_tokens(call.arguments) for call in calls)
