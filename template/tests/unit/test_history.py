"""Tests how much of a conversation is sent to a model."""

import pytest
from uuid_utils.compat import uuid7

from app.models.message import MessageStatus, Role
from app.repositories.conversation import HistoryMessage
from app.services.ai import AssistantMessage, UserMessage, estimate_tokens
from app.services.chat.history import fit_messages


def said(*texts: str) -> list[HistoryMessage]:
    """Makes messages of the user and the assistant in turn, beginning with the user; returns the newest first."""
    roles = (Role.user, Role.assistant)
    lines = [
        HistoryMessage(position, roles[position % 2], text, uuid7(), MessageStatus.completed)
        for position, text in enumerate(texts)
    ]
    return lines[::-1]


def test_everything_that_fits_is_sent_in_order() -> None:
    assert fit_messages(3, said("one", "two", "six")) == [
        UserMessage("one"),
        AssistantMessage("two"),
        UserMessage("six"),
    ]


def test_what_does_not_fit_whole_is_left_out_with_all_before_it() -> None:
    assert fit_messages(5, said("a", "b", "x" * 17, "d", "five", "six")) == [
        UserMessage("five"),
        AssistantMessage("six"),
    ]


def test_the_first_line_is_the_users() -> None:
    assert fit_messages(1, said("one", "two")) == []


def test_a_reply_without_words_is_left_out() -> None:
    assert fit_messages(9, said("one", " ", "two")) == [UserMessage("one"), UserMessage("two")]


def test_no_budget_is_no_history() -> None:
    assert fit_messages(0, said("one", "two")) == []


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("four", 1),
        ("fives", 2),
        ("你好世界", 3),
        ("こんにちは", 4),
        ("привет", 3),
        ("🦜", 1),
        ("\ud83e", 1),
    ],
)
def test_tokens_are_estimated_for_every_script(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens
