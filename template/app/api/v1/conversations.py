from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from app.api.deps import CurrentUser, Cursor, DatabaseDep, Limit
from app.api.v1.chat import agents_of
from app.models.conversation import Conversation
from app.repositories.base import Page
from app.repositories.message import MessageRow
from app.schemas.base import PageRead
from app.schemas.conversation import (
    ConversationCreate,
    ConversationListRead,
    ConversationRead,
    ConversationUpdate,
    SearchQuery,
)
from app.schemas.message import BranchMessageRead
from app.services.chat.conversations import ConversationService

router = APIRouter(prefix="/chat/conversations", tags=["chat"])


async def conversation_service(request: Request, database: DatabaseDep, user: CurrentUser) -> ConversationService:
    state = request.app.state
    return ConversationService(database, state.ai, agents_of(state, user.id, user.scopes), user.id)


Conversations = Annotated[ConversationService, Depends(conversation_service)]
Leaf = Annotated[
    UUID | None, Query(description="Lists the branch that ends with this message, in place of the active one")
]


@router.post("", status_code=201, response_model=ConversationRead)
async def create_conversation(data: ConversationCreate, conversations: Conversations) -> Conversation:
    return await conversations.create(data)


@router.get("", response_model=PageRead[ConversationListRead])
async def list_conversations(
    conversations: Conversations,
    limit: Limit = 50,
    cursor: Cursor = None,
    *,
    query: SearchQuery | None = None,
    archived: bool = False,
    pinned: bool | None = None,
    agent_id: UUID | None = None,
) -> Page[Conversation]:
    """Lists conversations, those with the newest messages first: those that are archived, or those that are not.

    With `query`, those of which a message in any branch, or the title, has all of the words, in whole and in any case.
    """
    return await conversations.list(limit, cursor, query, archived=archived, pinned=pinned, agent_id=agent_id)


@router.get("/{conversation_id}", response_model=ConversationRead)
async def read_conversation(conversation_id: UUID, conversations: Conversations) -> Conversation:
    return await conversations.get(conversation_id)


@router.patch("/{conversation_id}", response_model=ConversationRead)
async def update_conversation(
    conversation_id: UUID, data: ConversationUpdate, conversations: Conversations
) -> Conversation:
    return await conversations.update(conversation_id, data)


@router.delete("/{conversation_id}", status_code=204)
async def delete_conversation(conversation_id: UUID, conversations: Conversations) -> None:
    await conversations.delete(conversation_id)


@router.get("/{conversation_id}/messages", response_model=PageRead[BranchMessageRead])
async def list_messages(
    conversation_id: UUID, conversations: Conversations, limit: Limit = 50, cursor: Cursor = None, leaf: Leaf = None
) -> Page[MessageRow]:
    """Lists messages, oldest first within a page. The first page has the newest; `next_cursor` leads to older ones."""
    return await conversations.messages(conversation_id, limit, cursor, leaf)
