from uuid import UUID

from app.core.database import Database
from app.models.base import now
from app.models.conversation import Conversation
from app.repositories.base import Page
from app.repositories.conversation import ConversationRepository
from app.repositories.message import MessageRepository, MessageRow
from app.schemas.base import changed
from app.schemas.conversation import ConversationCreate, ConversationUpdate

TITLE_CHARACTERS = 50
"""Limits the titles that are made from first messages; the column holds 200 characters."""


class ConversationService:
    """Manages one user's conversations."""

    def __init__(self, database: Database, user_id: UUID) -> None:
        self._database = database
        self._user_id = user_id

    async def create(self, data: ConversationCreate) -> Conversation:
        async with self._database.write(self._user_id) as session:
            return await ConversationRepository(session, self._user_id).begin(data.title)

    async def list(self, limit: int, cursor: UUID | None, *, archived: bool, pinned: bool | None) -> Page[Conversation]:
        """Lists conversations, those with the newest messages first."""
        async with self._database.read() as session:
            conversations = ConversationRepository(session, self._user_id)
            return await conversations.filter(limit, cursor, archived=archived, pinned=pinned)

    async def get(self, id: UUID) -> Conversation:
        async with self._database.read() as session:
            return await ConversationRepository(session, self._user_id).get(id)

    async def update(self, id: UUID, data: ConversationUpdate) -> Conversation:
        """Changes a conversation, and shows the branch of another message if one is named. Raises NotFound."""
        changes = changed(data)
        message_id, archived = changes.pop("active_message_id", None), changes.pop("archived", None)
        async with self._database.write(self._user_id) as session:
            conversations = ConversationRepository(session, self._user_id)
            conversation = await conversations.get(id, lock=True)
            if message_id is not None:
                await conversations.activate(conversation, message_id)
            if archived is not None and archived != conversation.archived:
                changes["archived_at"] = now() if archived else None
            return await conversations.update(conversation, changes)

    async def delete(self, id: UUID) -> None:
        async with self._database.write(self._user_id) as session:
            conversations = ConversationRepository(session, self._user_id)
            await conversations.delete(await conversations.get(id, lock=True))

    async def messages(self, id: UUID, limit: int, cursor: UUID | None, leaf_id: UUID | None) -> Page[MessageRow]:
        """Lists messages of the branch that is shown, or of the one that ends with `leaf_id`. Raises NotFound."""
        async with self._database.rows() as connection:
            return await MessageRepository(connection, self._user_id).list(id, limit, cursor, leaf_id)


def title_from(content: str) -> str:
    """Returns the title of a conversation that begins with this message."""
    return " ".join(content.split())[:TITLE_CHARACTERS].strip() or "New conversation"
