"""Reads messages page by page: as columns instead of ORM objects and by statements built once, which is faster."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Select, Uuid, and_, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import NotFound
from app.models.conversation import Conversation
from app.models.message import Message, MessageStatus, Rating, Role, parts_of
from app.repositories.base import Page
from app.repositories.branch import go_down, go_up, parent_of


@dataclass(frozen=True, slots=True)
class MessageRow:
    id: UUID
    conversation_id: UUID
    role: Role
    content: str
    status: MessageStatus
    created_at: datetime
    code: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost: Decimal | None
    rating: Rating | None
    comment: str | None
    agent_id: UUID | None
    execution_id: UUID | None
    stored_parts: Sequence[Mapping[str, Any]] | None
    parent_id: UUID | None = None
    siblings: Sequence[UUID] = ()
    """Lists the messages that follow the same one, itself included, in the order in which they were stored."""

    @property
    def parts(self) -> Sequence[Mapping[str, Any]]:
        return parts_of(self.stored_parts, self.content)

    @property
    def usage(self) -> "MessageRow | None":
        """Returns the row itself, from which `UsageRead` is made; None if no model was asked."""
        return None if self.model is None else self

    @property
    def feedback(self) -> "MessageRow | None":
        """Returns the row itself, from which `FeedbackRead` is made; None if it was not rated."""
        return None if self.rating is None else self


class MessageRepository:
    """Reads the messages of one user's conversations."""

    def __init__(self, connection: AsyncConnection, user_id: UUID) -> None:
        self._connection = connection
        self._user_id = user_id

    async def list(
        self, conversation_id: UUID, limit: int, cursor: UUID | None, leaf_id: UUID | None
    ) -> Page[MessageRow]:
        """Returns a page of the branch that is shown, or of that of the message `leaf_id`, oldest message first.

        The first page is the newest, the cursor leads to older messages of its branch. Raises NotFound.
        """
        place = {"id": conversation_id, "limit": limit + 1}
        if leaf_id is None or await self._is_unbranched(conversation_id, leaf_id):
            found = await self._execute(_OLDER if cursor else _NEWEST, cursor=cursor, **place)
            if found:
                parents = [*(row.id for row in found[1:]), None]
                return _to_page(conversation_id, limit, [(*row, id) for row, id in zip(found, parents, strict=True)])
            leaf_id = await self._active(conversation_id)
            if leaf_id is None:
                return Page([], None)
        branch = _OLDER_OF_BRANCH if cursor else _NEWEST_OF_BRANCH
        found = await self._execute(branch, cursor=cursor, leaf=leaf_id, **place)
        if not found and not cursor:
            raise NotFound("Message", leaf_id)
        siblings = await self._siblings([row.parent for row in found])
        return _to_page(conversation_id, limit, found, siblings)

    async def _is_unbranched(self, conversation_id: UUID, message_id: UUID) -> bool:
        """Tells whether a conversation has one branch, to which this message belongs. Raises NotFound."""
        if await self._active(conversation_id) is not None:
            return False
        if not await self._execute(_MESSAGE, id=conversation_id, leaf=message_id):
            raise NotFound("Message", message_id)
        return True

    async def _active(self, conversation_id: UUID) -> UUID | None:
        """Returns the last message of the branch that is shown; None if there is only one branch. Raises NotFound."""
        found = await self._execute(_CONVERSATION, id=conversation_id)
        if not found:
            raise NotFound("Conversation", conversation_id)
        return found[0].active_message_id

    async def _siblings(self, parents: Sequence[UUID]) -> Mapping[UUID, Sequence[UUID]]:
        """Returns the ids of the messages that follow each of these."""
        ids = defaultdict[UUID, list[UUID]](list)
        for row in await self._execute(_SIBLINGS, parents=parents):
            ids[row.parent_id].append(row.id)
        return ids

    async def _execute(self, query: Select[*tuple[Any, ...]], **parameters: Any) -> Sequence[Any]:
        return (await self._connection.execute(query, {"user_id": self._user_id, **parameters})).all()


def _to_page(
    conversation_id: UUID, limit: int, found: Sequence[Any], siblings: Mapping[UUID, Sequence[UUID]] | None = None
) -> Page[MessageRow]:
    """Returns rows, of which the last column is the parent, as a page; one more row shows that there are more."""
    items: list[MessageRow] = []
    for *row, parent_id in reversed(found[:limit]):
        others = (siblings or {}).get(parent_id, ())
        is_first = parent_id == conversation_id
        items.append(MessageRow(*row, parent_id=None if is_first else parent_id, siblings=others or [row[0]]))
    return Page(items, items[0].id if len(found) > limit else None)


_COLUMNS = [field.name for field in fields(MessageRow) if field.name not in ("parent_id", "siblings")]
_MINE = and_(
    Conversation.id == bindparam("id", type_=Uuid()), Conversation.user_id == bindparam("user_id", type_=Uuid())
)
"""Selects the conversation through which messages are reached, so that other users' are invisible."""
_CONVERSATION = select(Conversation.active_message_id).where(_MINE)
_ID = select(Conversation.id).where(_MINE).scalar_subquery()
_ID_OF_ONE_BRANCH = select(Conversation.id).where(_MINE, Conversation.active_message_id.is_(None)).scalar_subquery()
_LIMIT = bindparam("limit", type_=Integer)
_CURSOR, _LEAF = bindparam("cursor", type_=Uuid()), bindparam("leaf", type_=Uuid())
_MESSAGE = select(Message.id).where(Message.conversation_id == _ID, Message.id == _LEAF)


def _page(*older: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """Selects messages of a conversation with one branch, which is faster than following the branch."""
    return (
        select(*(getattr(Message, name) for name in _COLUMNS))
        .where(Message.conversation_id == _ID_OF_ONE_BRANCH, *older)
        .order_by(Message.position.desc())
        .limit(_LIMIT)
    )


def _position() -> ColumnElement[int]:
    of_it = (Message.conversation_id == bindparam("id"), Message.id == _CURSOR)
    return select(Message.position).where(*of_it).scalar_subquery()


def _is_end(message: type[Message]) -> ColumnElement[bool]:
    end = go_down(Message.conversation_id == _ID, _LEAF).scalar_subquery()
    return and_(message.conversation_id == _ID, message.id == end)


def _is_before_cursor(message: type[Message]) -> ColumnElement[bool]:
    parent = select(parent_of(Message)).where(Message.conversation_id == _ID, Message.id == _CURSOR)
    return and_(message.conversation_id == _ID, message.id == parent.scalar_subquery())


_NEWEST, _OLDER = _page(), _page(Message.position < _position())
_NEWEST_OF_BRANCH, _OLDER_OF_BRANCH = (go_up(_COLUMNS, start, _LIMIT) for start in (_is_end, _is_before_cursor))
_SIBLINGS = (
    select(Message.parent_id, Message.id)
    .where(Message.parent_id.in_(bindparam("parents", expanding=True)))
    .order_by(Message.position)
)
"""Selects what follows messages that were reached through the conversation; with its id, a database reads it all."""
