from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.models.conversation import Conversation
from app.models.message import Message, Role
from app.repositories.base import OwnedRepository


@dataclass(frozen=True, slots=True)
class SearchHit:
    conversation_id: UUID
    title: str
    said_at: datetime
    role: Role
    content: str


class ConversationSearch(OwnedRepository[Conversation]):
    """Searches the messages of one user's conversations."""

    model = Conversation

    async def messages(self, words: Sequence[str], limit: int) -> Sequence[SearchHit]:
        """Returns the messages with all of the words, newest first. SQLite ignores the case of ASCII letters only."""
        found = (
            self._rows()
            .join(Message, Message.conversation_id == Conversation.id)
            .where(*(Message.content.icontains(word, autoescape=True) for word in words))
            .with_only_columns(Conversation.id, Conversation.title, Message.created_at, Message.role, Message.content)
            .order_by(Message.id.desc())
            .limit(limit)
        )
        return [SearchHit(*row) for row in await self._session.execute(found)]
