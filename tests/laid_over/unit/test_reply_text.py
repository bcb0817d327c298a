"""Tests the text that carries a reply with its reasoning: nothing is lost in it, wherever a reader goes on."""

from collections.abc import Sequence
from random import Random
from uuid import uuid4

import pytest

from app.models.base import now
from app.models.message import MessageStatus, Role, parts_of
from app.repositories.reply import ReplyText
from app.schemas.message import MessageRead
from app.services.ai import Piece, Reasoning
from app.services.chat import reply_text
from app.services.chat.reply_text import decode, encode, encode_message, encode_piece, to_deltas


def carry(pieces: Sequence[Piece]) -> str:
    carried = ""
    for piece in pieces:
        carried += encode_piece(carried, piece)
    return carried


def message_of(text: ReplyText) -> MessageRead:
    return MessageRead(
        id=uuid4(),
        conversation_id=uuid4(),
        role=Role.assistant,
        content=text.content,
        status=MessageStatus.pending,
        created_at=now(),
        parts=parts_of(text.stored_parts, text.content),  # pyright: ignore[reportArgumentType]
    )


@pytest.mark.parametrize("seed", range(200))
def test_any_pieces_come_back_from_any_place(seed: int) -> None:
    random = Random(seed)  # noqa: S311
    words = ["a", "", "😀", "\0", "\0b", "\ud83d", "two words", "\n"]
    pieces: list[Piece] = [random.choice([word, Reasoning(word)]) for word in random.choices(words, k=9)]
    carried = carry(pieces)
    text = decode(carried)
    message = message_of(text)
    assert carried == encode(text) == encode_message(message)
    assert "\0" not in text.content + text.reasoning
    said = [number for number, piece in enumerate(pieces) if isinstance(piece, str) and piece.strip("\0")]
    first = said[0] if said else len(pieces)
    reasoning = "".join(piece.text for piece in pieces[:first] if isinstance(piece, Reasoning))
    content = "".join(piece for piece in pieces if isinstance(piece, str))
    assert text.reasoning == reasoning.replace("\0", "").replace("\ud83d", "?")
    assert text.content == content.replace("\0", "").replace("\ud83d", "?")
    for offset in range(len(carried) + 2):
        places = list(to_deltas(message, carried, offset))
        assert [delta.part for _, delta in places] in ([], [0], [1], [0, 1])
        assert all(place > offset for place, _ in places)
        told = {delta.type: delta.text for _, delta in places}
        if not text.reasoning:
            assert told.get("message.delta", "") == text.content[offset:]
        else:
            assert told.get("reasoning.delta", "") == text.reasoning[max(offset - 1, 0) :]
            assert told.get("message.delta", "") == text.content[max(offset - 2 - len(text.reasoning), 0) :]


def test_the_rest_of_endless_reasoning_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_text, "MAX_REASONING_CHARACTERS", 10)
    text = decode(carry([*[Reasoning("thinks")] * 5, "and ", "speaks at length", Reasoning("no")]))
    assert (text.reasoning[:6], len(text.reasoning) <= 10, text.content) == ("thinks", True, "and speaks at length")
