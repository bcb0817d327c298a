"""Builds the queries that follow the branches of a conversation, from message to message."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, literal, select, true
from sqlalchemy.orm import InstrumentedAttribute, aliased

from app.models.message import Message


def parent_of(message: type[Message]) -> ColumnElement[UUID]:
    """Returns the id of the message that one follows; that of the conversation, if it follows none."""
    last = aliased(Message)
    by_position = (last.conversation_id == message.conversation_id, last.position == message.position - 1)
    previous = select(last.id).where(*by_position).correlate(message).scalar_subquery()
    return func.coalesce(message.parent_id, previous, message.conversation_id)


def go_up(
    names: Sequence[str],
    start: Callable[[type[Message]], ColumnElement[bool]],
    limit: ColumnElement[int] | int,
    characters: int | None = None,
) -> Select[*tuple[Any, ...]]:
    """Selects columns of the message at which it starts and of those before it, newest first, and last their parents.

    At most `limit` messages are read, and none before those that have over `characters` in all.
    """
    first, older = aliased(Message), aliased(Message)
    read = func.length(first.content).label("read")
    begin = select(*_named(first, names), parent_of(first).label("parent"), literal(1).label("count"), read)
    branch = begin.where(start(first)).cte(recursive=True)
    goes_on = true() if characters is None else branch.c.read <= characters
    step = select(
        *_named(older, names), parent_of(older), branch.c.count + 1, branch.c.read + func.length(older.content)
    )
    before = step.join_from(branch, older, older.id == branch.c.parent).where(branch.c.count < limit, goes_on)
    branch = branch.union_all(before)
    return select(*(branch.c[name] for name in (*names, "parent"))).order_by(branch.c.count)


def go_down(of: ColumnElement[bool], id: UUID | ColumnElement[UUID]) -> Select[UUID]:
    """Selects the newest of a message and all that follow it, which is the end of a branch."""
    after = aliased(Message)
    branch = select(Message.id, Message.position).where(of, Message.id == id).cte(recursive=True)
    branch = branch.union_all(select(after.id, after.position).join_from(branch, after, after.parent_id == branch.c.id))
    return select(branch.c.id).order_by(branch.c.position.desc()).limit(1)


def _named(message: type[Message], names: Sequence[str]) -> list[InstrumentedAttribute[Any]]:
    return [getattr(message, name) for name in names]
