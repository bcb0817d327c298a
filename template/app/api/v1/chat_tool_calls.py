"""Answers tool calls that agents make in replies: approvals, and results of tools that the client runs."""

from uuid import UUID

from fastapi import APIRouter

from app.api.v1.chat import Chat
from app.schemas.client_tool import ToolResultsCreate
from app.schemas.message import ApprovalAnswer, MessageRead

router = APIRouter(prefix="/chat/messages", tags=["chat"])


@router.post("/{message_id}/approvals")
async def answer_call(message_id: UUID, data: ApprovalAnswer, chat: Chat) -> MessageRead:
    """Approves or denies a tool call for which a reply waits; an approval holds for exactly the arguments shown."""
    await chat.answer(message_id, data)
    return await chat.read(message_id)


@router.post("/{message_id}/tool-results")
async def give_results(message_id: UUID, data: ToolResultsCreate, chat: Chat) -> MessageRead:
    """Gives the results of the tools that the client runs, for all calls together for which the reply waits."""
    await chat.give_results(message_id, data)
    return await chat.read(message_id)
