from dataclasses import replace
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import Database
from app.core.errors import NotFound
from app.models.base import now
from app.models.conversation import Conversation
from app.models.message import MessageStatus
from app.repositories.base import Page
from app.repositories.conversation import ConversationRepository
from app.repositories.conversation_search import ConversationSearch, SearchWords
from app.repositories.message import MessageRepository, MessageRow
from app.schemas.base import changed
from app.schemas.conversation import ConversationCreate, ConversationUpdate
from app.services.ai import ModelGateway
from app.services.chat.writers import AgentWriter, Written

TITLE_CHARACTERS = 50
"""Limits the titles that are made from first messages; the column holds 200 characters."""


class ConversationService:
    """Manages one user's conversations."""

    def __init__(self, database: Database, ai: ModelGateway, agents: AgentWriter | None, user_id: UUID) -> None:
        self._database = database
        self._ai = ai
        self._agents = agents
        self._user_id = user_id

    async def create(self, data: ConversationCreate) -> Conversation:
        """Begins a conversation. Raises Invalid, NotFound."""
        async with self._database.write(self._user_id) as session:
            await self._check(session, data)
            return await ConversationRepository(session, self._user_id).begin(**dict(data))

    async def list(
        self,
        limit: int,
        cursor: UUID | None,
        query: str | None,
        *,
        archived: bool,
        pinned: bool | None,
        agent_id: UUID | None,
    ) -> Page[Conversation]:
        """Lists conversations, those with the newest messages first; with a query, those that have all its words."""
        async with self._database.read() as session:
            conversations = ConversationSearch(session, self._user_id)
            if query is None:
                return await conversations.filter(limit, cursor, archived=archived, pinned=pinned, agent_id=agent_id)
            words = SearchWords.read(query)
            return await conversations.search(words, limit, cursor, archived=archived, pinned=pinned, agent_id=agent_id)

    async def get(self, id: UUID) -> Conversation:
        async with self._database.read() as session:
            return await ConversationRepository(session, self._user_id).get(id)

    async def update(self, id: UUID, data: ConversationUpdate) -> Conversation:
        """Changes a conversation, and shows the branch of another message if one is named. Raises Invalid, NotFound."""
        changes = changed(data)
        message_id, archived = changes.pop("active_message_id", None), changes.pop("archived", None)
        async with self._database.write(self._user_id) as session:
            conversations = ConversationRepository(session, self._user_id)
            conversation = await conversations.get(id, lock=True)
            await self._check(session, data)
            if message_id is not None:
                await conversations.activate(conversation, message_id)
            if archived is not None and archived != conversation.archived:
                changes["archived_at"] = now() if archived else None
            return await conversations.update(conversation, changes)

    async def delete(self, id: UUID) -> None:
        async with self._database.write(self._user_id) as session:
            conversations = ConversationRepository(session, self._user_id)
            conversation = await conversations.get(id, lock=True)
            if self._agents is not None:
                await self._agents.forget(session, id)
            await conversations.delete(conversation)

    async def messages(self, id: UUID, limit: int, cursor: UUID | None, leaf_id: UUID | None) -> Page[MessageRow]:
        """Lists messages of the branch that is shown, or of the one that ends with `leaf_id`. Raises NotFound."""
        async with self._database.rows() as connection:
            page = await MessageRepository(connection, self._user_id).list(id, limit, cursor, leaf_id)
        pending = [row.id for row in page.items if row.execution_id and row.status is MessageStatus.pending]
        if not pending or self._agents is None:
            return page
        async with self._database.read() as session:
            written = await self._agents.read_written(session, pending)
        return replace(page, items=[_with_written(row, written.get(row.id)) for row in page.items])

    async def _check(self, session: AsyncSession, data: ConversationCreate | ConversationUpdate) -> None:
        """Raises NotFound if the person has no such agent, and Invalid if the model cannot be used."""
        if data.model is not None:
            self._ai.check(data.model)
        if data.agent_id is None:
            return
        if self._agents is None:
            raise NotFound("Agent", data.agent_id)
        await self._agents.check(session, data.agent_id)


def _with_written(row: MessageRow, written: Written | None) -> MessageRow:
    return row if written is None else replace(row, content=written.content, stored_parts=written.parts)


def title_from(content: str) -> str:
    """Returns the title of a conversation that begins with this message."""
    return " ".join(content.split())[:TITLE_CHARACTERS].strip() or "New conversation"
