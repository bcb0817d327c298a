"""Carries a reply in one text that grows: what a model shows of its reasoning, and then what it says.

So a number says how far a reader is, in whichever of the two. Without reasoning it is the text of the reply itself.
"""

from collections.abc import Iterator

from app.core.text import storable
from app.repositories.reply import ReplyText
from app.schemas.message import MessageDelta, MessageRead, ReasoningPart
from app.schemas.reply_event import ReasoningDelta
from app.services.ai import Piece

MAX_REASONING_CHARACTERS = 200_000
"""Limits the reasoning that is kept and shown; the answer goes on without the rest of it."""

_MARK = "\0"
"""Stands before the reasoning, and between that and the text. `storable` removes it from what models write."""


def encode(text: ReplyText) -> str:
    if not text.reasoning:
        return text.content
    return f"{_MARK}{text.reasoning}{text.content and _MARK}{text.content}"


def decode(carried: str) -> ReplyText:
    if not carried.startswith(_MARK):
        return ReplyText(carried)
    reasoning, _, content = carried[1:].partition(_MARK)
    return ReplyText(content, reasoning)


def encode_message(message: MessageRead) -> str:
    """Returns what has carried a reply, as far as it is stored."""
    first = message.parts[0] if message.parts else None
    return encode(ReplyText(message.content, first.text if isinstance(first, ReasoningPart) else ""))


def encode_piece(carried: str, piece: Piece) -> str:
    """Returns what carries a piece, after what has carried those before it.

    Reasoning amid an answer is left out, since readers have it before the answer.
    """
    is_reasoning = _end_of_reasoning(carried) == len(carried)
    if isinstance(piece, str):
        text = storable(piece)
        return f"{_MARK}{text}" if text and carried and is_reasoning else text
    if not is_reasoning:
        return ""
    text = storable(piece.text)[: max(MAX_REASONING_CHARACTERS - len(carried), 0)]
    return f"{_MARK}{text}" if text and not carried else text


def to_deltas(reply: MessageRead, carried: str, offset: int) -> Iterator[tuple[int, MessageDelta | ReasoningDelta]]:
    """Yields what comes after `offset` characters, with the number of characters up to and including each event."""
    end = _end_of_reasoning(carried)
    if reasoning := carried[max(offset, 1) : end]:
        yield end, ReasoningDelta(reply_id=reply.id, part=0, text=reasoning)
    if text := carried[max(offset, end and end + 1) :]:
        yield len(carried), MessageDelta(reply_id=reply.id, part=1 if end else 0, text=text)


def _end_of_reasoning(carried: str) -> int:
    """Returns how many characters carry reasoning; 0 without any."""
    if not carried.startswith(_MARK):
        return 0
    end = carried.find(_MARK, 1)
    return len(carried) if end < 0 else end
