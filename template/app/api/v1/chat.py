from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse

from app.api.deps import CurrentUser, Cursor, DatabaseDep, Limit
from app.api.sse import KEEP_ALIVE, STREAM, event, event_stream
from app.core.config import read_settings
from app.models.conversation import Conversation
from app.models.message import Message
from app.repositories.base import Page
from app.schemas.base import PageRead
from app.schemas.conversation import ConversationCreate, ConversationRead, ConversationUpdate
from app.schemas.message import MessageCreate, MessageRead
from app.services.chat import ChatService, ChatSettings, Progress
from app.services.replies import open_replies


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    state = app.state
    state.chat_settings = settings = read_settings(ChatSettings)
    state.features.append("chat")
    state.limits["message_characters"] = settings.message_max_characters
    grace = state.settings.shutdown_grace_seconds
    async with open_replies(state.database, state.events, state.ai, grace) as state.replies:
        yield


router = APIRouter(prefix="/chat", tags=["chat"], lifespan=lifespan)


def chat_service(request: Request, database: DatabaseDep, user: CurrentUser) -> ChatService:
    state = request.app.state
    return ChatService(state.chat_settings, database, state.events, state.replies, user.id)


Chat = Annotated[ChatService, Depends(chat_service)]


@router.post("/messages", status_code=201)
async def send_message(data: MessageCreate, chat: Chat) -> MessageRead:
    """Waits for the reply and answers with it. A reply that failed says so in its `status`."""
    return await chat.wait(await chat.send(data))


@router.post("/messages/stream", response_class=StreamingResponse, responses=STREAM)
async def stream_message(data: MessageCreate, chat: Chat) -> StreamingResponse:
    """The reply as it grows. Leaving does not stop it."""
    turn = await chat.send(data)
    return event_stream(_frames(chat.follow(turn)))


@router.post("/conversations", status_code=201, response_model=ConversationRead)
async def create_conversation(data: ConversationCreate, chat: Chat) -> Conversation:
    return await chat.create(data)


@router.get("/conversations", response_model=PageRead[ConversationRead])
async def list_conversations(chat: Chat, limit: Limit = 50, cursor: Cursor = None) -> Page[Conversation]:
    return await chat.list(limit, cursor)


@router.get("/conversations/{conversation_id}", response_model=ConversationRead)
async def read_conversation(conversation_id: UUID, chat: Chat) -> Conversation:
    return await chat.get(conversation_id)


@router.patch("/conversations/{conversation_id}", response_model=ConversationRead)
async def update_conversation(conversation_id: UUID, data: ConversationUpdate, chat: Chat) -> Conversation:
    return await chat.update(conversation_id, data)


@router.delete("/conversations/{conversation_id}", status_code=204)
async def delete_conversation(conversation_id: UUID, chat: Chat) -> None:
    await chat.delete(conversation_id)


@router.get("/conversations/{conversation_id}/messages", response_model=PageRead[MessageRead])
async def list_messages(conversation_id: UUID, chat: Chat, limit: Limit = 50, cursor: Cursor = None) -> Page[Message]:
    """Oldest first within a page. The first page holds the newest; `next_cursor` leads back."""
    return await chat.messages(conversation_id, limit, cursor)


async def _frames(progress: AsyncIterator[Progress]) -> AsyncIterator[bytes]:
    async for step in progress:
        if step.event is None:
            yield KEEP_ALIVE
        else:
            yield event(step.event.type, step.offset, step.event.model_dump_json())
