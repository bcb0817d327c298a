from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, update

from app.models.base import now
from app.models.conversation import Conversation
from app.models.message import Message, MessageStatus, Role
from app.repositories.base import OwnedRepository, Page


@dataclass(frozen=True, slots=True)
class Said:
    position: int
    role: Role
    content: str


class ConversationRepository(OwnedRepository[Conversation]):
    """One user's conversations and, only through them, their messages."""

    model = Conversation

    async def append(self, conversation: Conversation, last_position: int, *messages: Message) -> None:
        for position, message in enumerate(messages, start=last_position + 1):
            message.conversation_id, message.position = conversation.id, position
        conversation.updated_at = now()
        self._session.add_all(messages)
        await self._session.flush()

    async def newest(self, conversation: Conversation, limit: int) -> Sequence[Said]:
        """What was said last, newest first."""
        said = (
            select(Message.position, Message.role, Message.content)
            .where(Message.conversation_id == conversation.id)
            .order_by(Message.position.desc())
            .limit(limit)
        )
        return [Said(*row) for row in await self._session.execute(said)]

    async def messages(self, id: UUID, limit: int, cursor: UUID | None) -> Page[Message]:
        """Oldest first within the page; the first page is the newest, the cursor leads back. Raises NotFound."""
        conversation = await self.get(id)
        here = Message.conversation_id == conversation.id
        messages = select(Message).where(here)
        if cursor is not None:
            before = select(Message.position).where(here, Message.id == cursor).scalar_subquery()
            messages = messages.where(Message.position < before)
        found = (await self._session.scalars(messages.order_by(Message.position.desc()).limit(limit + 1))).all()
        items = found[:limit][::-1]
        return Page(items, items[0].id if len(found) > limit else None)

    async def settle(self, message_id: UUID, status: MessageStatus, content: str) -> Message:
        """The last word of a reply: what it said and how it ended."""
        mine = self._rows().with_only_columns(Conversation.id)
        settled = (
            update(Message)
            .where(Message.id == message_id, Message.conversation_id.in_(mine))
            .values(status=status, content=content)
            .returning(Message)
        )
        return (await self._session.scalars(settled)).one()
