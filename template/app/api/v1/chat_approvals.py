"""Answers approvals of tool calls that agents make in replies."""

from uuid import UUID

from fastapi import APIRouter

from app.api.v1.chat import Chat
from app.schemas.message import ApprovalAnswer, MessageRead

router = APIRouter(prefix="/chat/messages", tags=["chat"])


@router.post("/{message_id}/approvals")
async def answer_call(message_id: UUID, data: ApprovalAnswer, chat: Chat) -> MessageRead:
    """Approves or denies a tool call for which a reply waits; an approval holds for exactly the arguments shown."""
    await chat.answer(message_id, data)
    return await chat.read(message_id)
