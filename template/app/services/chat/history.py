"""Selects the messages of a conversation that are sent to a model."""

from collections.abc import Iterator, Sequence
from itertools import dropwhile

from app.models.message import Role
from app.repositories.conversation import HistoryMessage
from app.services.ai import AssistantMessage, ChatMessage, UserMessage, estimate_tokens


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
