"""How much of a conversation a model is sent."""

from collections.abc import Iterator, Sequence
from itertools import dropwhile

from app.models.message import Role
from app.repositories.conversation import Said
from app.services.ai import Line, estimated_tokens


def within(max_tokens: int, newest: Sequence[Said]) -> list[Line]:
    """The newest lines that fit, in order. Each is kept whole, and the first is the user's, as providers ask."""
    lines = list(_newest_that_fit(max_tokens, newest))[::-1]
    return list(dropwhile(lambda line: line.role == "assistant", lines))


def _newest_that_fit(max_tokens: int, newest: Sequence[Said]) -> Iterator[Line]:
    left = max_tokens
    for said in newest:
        left -= estimated_tokens(said.content)
        if left < 0:
            return
        if said.content.strip() and said.role in (Role.user, Role.assistant):
            yield Line("user" if said.role is Role.user else "assistant", said.content)
