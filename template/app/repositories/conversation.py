from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, Select, and_, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, aliased, undefer
from uuid_utils.compat import uuid7

from app.core.errors import NotFound
from app.models.base import now
from app.models.conversation import ARCHIVED, CURRENT, PINNED, Conversation
from app.models.message import Message, MessageStatus, Role
from app.repositories.base import OwnedRepository, Page, insert, lock_user
from app.repositories.branch import go_down, go_up, parent_of
from app.repositories.reply import Outcome

HISTORY_MAX_MESSAGES, CHARACTERS_PER_TOKEN = 200, 4


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    position: int
    role: Role
    content: str
    id: UUID
    status: MessageStatus
    agent_id: UUID | None = None
    model: str | None = None
    history_tokens: int | None = None
    shortened_tokens: int | None = None
    summary: str | None = None
    """Sums up what comes before it."""


_HISTORY = tuple(HistoryMessage.__slots__)


@dataclass(frozen=True, slots=True)
class Reach:
    """Limits how much of a branch is read: no message before those that have over `characters` in all."""

    messages: int
    characters: int

    @classmethod
    def of_tokens(cls, tokens: int) -> Self:
        return cls(HISTORY_MAX_MESSAGES, tokens * CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Branch:
    """Represents the branch of a locked conversation that goes on."""

    conversation: Conversation
    parent_id: UUID
    """Identifies what the next message follows: the conversation, if that is the first one."""
    newest: Sequence[HistoryMessage] = ()
    """Holds its messages within reach, newest first."""
    last_position: int = 0
    """Holds the position of the last message of all branches."""
    siblings: int = 0
    """Counts the messages that have gone on from here before."""


@dataclass(frozen=True, slots=True)
class TitledExchange:
    """Holds the texts of a user's message and of the reply to it, and the title of their conversation."""

    conversation_id: UUID
    title: str
    message: str
    reply: str


class ConversationRepository(OwnedRepository[Conversation]):
    """Reads and writes one user's conversations and, only through them, their messages."""

    model = Conversation

    async def begin(self, title: str, *, agent_id: UUID | None = None, model: str | None = None) -> Conversation:
        id = uuid7()
        return await self.create(id=id, title=title, last_message_id=id, agent_id=agent_id, model=model)

    async def begin_called(self, client_id: str, title: str, *, agent_id: UUID | None) -> Conversation | None:
        """Begins a conversation with a client's own id; None if another request has just begun it."""
        await self.lock_owner()
        id, at = uuid7(), now()
        row = {"id": id, "created_at": at, "updated_at": at, "user_id": self._user_id, "title": title}
        row |= {"last_message_id": id, "agent_id": agent_id, "client_id": client_id, "pinned": False}
        new = insert(self._session, Conversation).values(row).on_conflict_do_nothing().returning(Conversation)
        return await self._session.scalar(new)

    async def find_called(self, id: str) -> Conversation | None:
        """Returns the conversation with this id, its own or the one that a client has given it."""
        called = Conversation.client_id == id
        with suppress(ValueError):
            called = or_(called, Conversation.id == UUID(id))
        return (await self._session.scalars(self._rows().where(called).limit(1))).one_or_none()

    async def filter(
        self, limit: int, cursor: UUID | None, *, archived: bool, pinned: bool | None, agent_id: UUID | None
    ) -> Page[Conversation]:
        """Returns a page, those with the newest messages first; the cursor is the `last_message_id` of the last one."""
        rows = self._listed(cursor, archived=archived, pinned=pinned, agent_id=agent_id).limit(limit + 1)
        return self._to_page((await self._session.scalars(rows)).all(), limit)

    def _listed(
        self, cursor: UUID | None, *, archived: bool, pinned: bool | None, agent_id: UUID | None
    ) -> Select[Conversation]:
        rows = self._rows().where(ARCHIVED if archived else CURRENT).order_by(Conversation.last_message_id.desc())
        if pinned is not None:
            rows = rows.where(PINNED if pinned else ~Conversation.pinned)
        if agent_id is not None:
            rows = rows.where(Conversation.agent_id == agent_id)
        return rows if cursor is None else rows.where(Conversation.last_message_id < cursor)

    def _to_page(self, found: Sequence[Conversation], limit: int) -> Page[Conversation]:
        items = found[:limit]
        return Page(items, items[-1].last_message_id or items[-1].id if len(found) > limit else None)

    async def append(self, branch: Branch, *messages: Message) -> None:
        """Stores messages, each of which follows the one before."""
        parent_id, conversation = branch.parent_id, branch.conversation
        for position, message in enumerate(messages, start=branch.last_position + 1):
            message.conversation_id, message.position, message.parent_id = conversation.id, position, parent_id
            parent_id = message.id
        conversation.updated_at, conversation.last_message_id = now(), parent_id
        if conversation.active_message_id is not None:
            conversation.active_message_id = parent_id
        self._session.add_all(messages)
        await self._session.flush()

    async def read_branch(self, conversation: Conversation, reach: Reach) -> Branch:
        """Returns the branch of a locked conversation that is shown."""
        if conversation.active_message_id is None:
            newest = await self.newest(conversation.id, reach)
            parent_id, last_position = (newest[0].id, newest[0].position) if newest else (conversation.id, 0)
            return Branch(conversation, parent_id, newest, last_position)
        last_position, parent_id = await self._connect(conversation), conversation.active_message_id
        return Branch(conversation, parent_id, await self.up_from(parent_id, reach), last_position)

    async def fork(self, message: Message, reach: Reach) -> Branch:
        """Locks the conversation of a message, and returns the branch before that message."""
        conversation = await self.get(message.conversation_id, lock=True)
        parent_id = await self._get_parent_id(message.id)
        return await self._branch(conversation, parent_id, parent_id, reach)

    async def answer_again(self, message: Message, reach: Reach) -> Branch:
        """Locks the conversation of a message, and returns the branch that it ends, read only before the message."""
        conversation = await self.get(message.conversation_id, lock=True)
        return await self._branch(conversation, message.id, await self._get_parent_id(message.id), reach)

    async def go_on_after(self, message: Message, reach: Reach) -> Branch:
        """Locks the conversation of a message, and returns the branch that ends with that message."""
        conversation = await self.get(message.conversation_id, lock=True)
        if conversation.active_message_id is None:
            shown = await self.read_branch(conversation, reach)
            if shown.parent_id == message.id:  # it still has one branch
                return shown
        return await self._branch(conversation, message.id, message.id, reach)

    async def _branch(self, conversation: Conversation, parent_id: UUID, newest_id: UUID, reach: Reach) -> Branch:
        last_position = await self._connect(conversation)
        siblings = await self._session.scalar(select(func.count()).where(Message.parent_id == parent_id))
        newest = await self.up_from(newest_id, reach)
        conversation.active_message_id = parent_id  # until the message that is appended
        return Branch(conversation, parent_id, newest, last_position, siblings or 0)

    async def _get_parent_id(self, id: UUID) -> UUID:
        return (await self._session.scalars(select(parent_of(Message)).where(Message.id == id))).one()

    async def activate(self, conversation: Conversation, message_id: UUID) -> None:
        """Makes a locked conversation show the branch of a message, to the newest one after it. Raises NotFound."""
        leaf_id = await self._session.scalar(go_down(Message.conversation_id == conversation.id, message_id))
        if leaf_id is None:
            raise NotFound("Message", message_id)
        if conversation.active_message_id is not None:
            conversation.active_message_id = leaf_id

    async def newest(self, conversation_id: UUID, reach: Reach) -> Sequence[HistoryMessage]:
        """Returns messages of a conversation that has one branch, newest first."""
        rows = (
            select(*(getattr(Message, name) for name in _HISTORY))
            .where(Message.conversation_id == self._mine(conversation_id))
            .order_by(Message.position.desc())
            .limit(reach.messages)
        )
        last = rows.subquery()
        length, newest_first = func.length(last.c.content), last.c.position.desc()
        later = (func.sum(length).over(order_by=newest_first) - length).label("later")
        measured = select(last, later).subquery()
        within = select(measured).where(measured.c.later <= reach.characters).order_by(measured.c.position.desc())
        return [HistoryMessage(*row) for *row, _later in await self._session.execute(within)]

    async def up_from(self, id: UUID, reach: Reach) -> Sequence[HistoryMessage]:
        """Returns a message and those before it in its branch, newest first."""

        def starts(message: type[Message]) -> ColumnElement[bool]:
            return and_(message.id == id, message.conversation_id == self._mine(message.conversation_id))

        rows = go_up(_HISTORY, starts, reach.messages, reach.characters)
        return [HistoryMessage(*row) for *row, _parent_id in await self._session.execute(rows)]

    async def _connect(self, conversation: Conversation) -> int:
        """Stores the parents that versions before 0.2 did not; returns the position of the last message.

        Such a version may have appended to a conversation with branches while both versions ran.
        """
        last_first = select(Message.position, Message.parent_id, Message.id).order_by(Message.position.desc()).limit(1)
        last = (await self._session.execute(last_first.where(Message.conversation_id == conversation.id))).one()
        if last.parent_id is None or conversation.active_message_id is None:
            of = (Message.conversation_id == conversation.id, Message.parent_id.is_(None))
            connected = update(Message).where(*of).values(parent_id=parent_of(Message))
            await self._session.execute(connected, execution_options={"synchronize_session": False})
        if last.parent_id is None and conversation.active_message_id is not None:
            conversation.active_message_id = last.id
        return last.position

    async def get_message(self, id: UUID, role: Role, conversation_id: UUID | None) -> Message:
        """Returns a message with this role, in this conversation if one is given. Raises NotFound."""
        of = [] if conversation_id is None else [Message.conversation_id == conversation_id]
        found = await self._session.scalar(select(Message).where(self._is(id, role), *of))
        if found is None:
            raise NotFound("Message", id)
        return found

    async def find_after(self, parent_id: UUID, conversation_id: UUID, content: str | None = None) -> UUID | None:
        """Returns the id of the newest message that follows one, or is a first one of the conversation with this id.

        With `content`, it is one that has this text.
        """
        of_it = (Message.conversation_id == self._mine(conversation_id), parent_of(Message) == parent_id)
        found = select(Message.id).where(*of_it).order_by(Message.position.desc()).limit(1)
        return await self._session.scalar(found if content is None else found.where(Message.content == content))

    async def find_message(self, id: UUID, conversation_id: UUID) -> Message | None:
        of_it = (Message.id == id, Message.conversation_id == self._mine(conversation_id))
        return await self._session.scalar(select(Message).where(*of_it))

    async def find_reply(self, id: UUID) -> Message | None:
        return await self._session.scalar(select(Message).where(self._is(id, Role.assistant)))

    async def get_reply(self, id: UUID) -> Message:
        """Returns a reply. Raises NotFound."""
        reply = await self.find_reply(id)
        if reply is None:
            raise NotFound("Reply", id)
        return reply

    async def exchange(self, reply_id: UUID) -> tuple[Message, Message]:
        """Returns a user's message and the reply to it. Raises NotFound."""
        question = aliased(Message)
        both = select(question, Message).join(question, question.id == parent_of(Message))
        both = both.where(self._is(reply_id, Role.assistant)).options(undefer(question.summary))
        found = (await self._session.execute(both)).one_or_none()
        if found is None:
            raise NotFound("Reply", reply_id)
        return found[0], found[1]

    async def entries(self, ids: Collection[UUID]) -> Mapping[UUID, list[dict[str, Any]]]:
        """Returns what agents keep of these messages besides their text, of those that have it."""
        mine = Message.conversation_id == self._mine(Message.conversation_id)
        found = select(Message.id, Message.entries).where(Message.id.in_(ids), mine, Message.entries.is_not(None))
        return {row[0]: row[1] or [] for row in await self._session.execute(found)}

    async def find_exchange(self, reply_id: UUID) -> TitledExchange | None:
        message = aliased(Message)
        columns = (Conversation.id, Conversation.title, message.content, Message.content)
        rows = self._rows().join(Message, Message.conversation_id == Conversation.id).where(Message.id == reply_id)
        rows = rows.join(message, message.id == parent_of(Message)).with_only_columns(*columns)
        found = (await self._session.execute(rows)).one_or_none()
        return None if found is None else TitledExchange(*found)

    async def replace_title(self, id: UUID, old: str, new: str) -> None:
        """Replaces a title, unless it has changed."""
        await self.lock_owner()
        of_user = (Conversation.id == id, Conversation.user_id == self._user_id, Conversation.title == old)
        await self._session.execute(update(Conversation).where(*of_user).values(title=new))

    async def read_before(self, message_id: UUID, reach: Reach) -> Sequence[HistoryMessage]:
        """Returns what comes before a user's message, newest first; nothing if it has a summary or was deleted."""
        waiting = (self._is(message_id, Role.user), Message.summary.is_(None))
        parent_id = await self._session.scalar(select(parent_of(Message)).where(*waiting))
        return () if parent_id is None else await self.up_from(parent_id, reach)

    async def store_summary(self, message_id: UUID, summary: str) -> None:
        """Stores what sums up the branch before a user's message, unless it has a summary or was deleted."""
        await lock_user(self._session, self._user_id)
        new = update(Message).where(self._is(message_id, Role.user), Message.summary.is_(None)).values(summary=summary)
        await self._session.execute(new, execution_options={"synchronize_session": False})

    async def update_reply(self, id: UUID, *where: ColumnElement[bool], **values: Any) -> Message | None:
        """Updates a reply and returns it; None when there is none that meets all conditions."""
        changed = update(Message).where(self._is(id, Role.assistant), *where).values(**values).returning(Message)
        return await self._session.scalar(changed)

    async def request_stop(self, reply_id: UUID) -> Message:
        """Requests that a reply stops, and returns it; one that has ended stays as it is. Raises NotFound."""
        pending = Message.status == MessageStatus.pending
        return await self.update_reply(reply_id, pending, stop_requested=True) or await self.get_reply(reply_id)

    async def finish_reply(self, reply_id: UUID, outcome: Outcome) -> Message | None:
        """Stores how a pending reply ended and returns it; None when it has ended before, or was deleted."""
        await lock_user(self._session, self._user_id)
        return await self.update_reply(reply_id, Message.status == MessageStatus.pending, **outcome.values())

    def _is(self, id: UUID, role: Role) -> ColumnElement[bool]:
        mine = Message.conversation_id == self._mine(Message.conversation_id)
        return and_(Message.id == id, Message.role == role, mine)

    def _mine(self, id: UUID | InstrumentedAttribute[UUID]) -> ScalarSelect[UUID]:
        """Selects this one conversation if it is the user's; a list of them all would grow with the user's history."""
        return self._rows().where(Conversation.id == id).with_only_columns(Conversation.id).scalar_subquery()
