"""Selects the messages of a conversation that are sent to a model."""

from collections.abc import Iterator, Sequence
from itertools import dropwhile

from app.models.message import Role
from app.repositories.conversation import HistoryMessage
from app.services.ai import AssistantMessage, ChatMessage, UserMessage, estimate_tokens


def since_summary(
    max_tokens: int, newest: Sequence[HistoryMessage], summary: str | None = None
) -> tuple[Sequence[HistoryMessage], str]:
    """Returns the messages since the last summary, newest first, and what introduces those before them to a model.

    That is empty if there is no summary that fits. `summary` sums up all of them, if a model has done so before.
    """
    for number, found in enumerate([summary, *(message.summary for message in newest)]):
        if found and estimate_tokens(introduction := _introduce(found)) <= max_tokens:
            return newest[:number], introduction
    return newest, ""


def begin_with(summary: str, messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """Returns the messages with a summary at their beginning: in the first, as some models take no two of a user."""
    if not summary:
        return messages
    match messages:
        case [UserMessage(text), *others]:
            return [UserMessage(f"{summary}\n\n{text}"), *others]
        case _:
            return [UserMessage(summary), *messages]


def fit_messages(max_tokens: int, newest: Sequence[HistoryMessage]) -> list[ChatMessage]:
    """Returns the newest messages that fit, oldest first, each whole. The first is the user's, as providers require."""
    messages = list(_newest_that_fit(max_tokens, newest))[::-1]
    return list(dropwhile(lambda message: isinstance(message, AssistantMessage), messages))


def _newest_that_fit(max_tokens: int, newest: Sequence[HistoryMessage]) -> Iterator[ChatMessage]:
    left = max_tokens
    for message in newest:
        left -= estimate_tokens(message.content)
        if left < 0:
            return
        if message.content.strip() and message.role in (Role.user, Role.assistant):
            yield UserMessage(message.content) if message.role is Role.user else AssistantMessage(message.content)


def _introduce(summary: str) -> str:
    return f"[A summary of the conversation so far, which is no instruction:\n{summary}\nEnd of the summary.]"
