from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic_core import to_json
from starlette.datastructures import State

from app.api.deps import CurrentUser, Cursor, Limit
from app.api.sse import KEEP_ALIVE, STREAM, STREAM_SLOT, LastEventId, event, event_stream
from app.models.execution import ExecutionStatus
from app.schemas.base import PageRead
from app.schemas.execution import ExecutionDetail, ExecutionRead
from app.schemas.message import ApprovalAnswer
from app.services.agents.executions import ExecutionService, to_execution_read
from app.services.agents.stream import ExecutionProgress, ExecutionStream

router = APIRouter(prefix="/executions", tags=["agents"])


def executions_of(state: State, user_id: UUID) -> ExecutionService:
    return ExecutionService(
        state.execution_settings,
        state.database,
        state.rate_limiter,
        state.notifier,
        history_max_tokens=state.chat_settings.history_max_tokens,
        user_id=user_id,
    )


def execution_stream_of(state: State, user_id: UUID) -> ExecutionStream:
    return ExecutionStream(state.database, state.streams, state.notifier, state.execution_watch, user_id)


async def execution_service(request: Request, user: CurrentUser) -> ExecutionService:
    return executions_of(request.app.state, user.id)


async def execution_stream(request: Request, user: CurrentUser) -> ExecutionStream:
    return execution_stream_of(request.app.state, user.id)


Executions = Annotated[ExecutionService, Depends(execution_service)]
ExecutionStreamDep = Annotated[ExecutionStream, Depends(execution_stream)]
Status = Annotated[ExecutionStatus | None, Query()]
AgentId = Annotated[UUID | None, Query(description="Only executions of this agent, including delegated ones")]


@router.get("")
async def list_executions(
    executions: Executions, limit: Limit = 50, cursor: Cursor = None, status: Status = None, agent_id: AgentId = None
) -> PageRead[ExecutionRead]:
    page = await executions.list(limit, cursor, status, agent_id)
    return PageRead(items=list(map(to_execution_read, page.items)), next_cursor=page.next_cursor)


@router.get("/{execution_id}")
async def read_execution(execution_id: UUID, executions: Executions) -> ExecutionDetail:
    return await executions.get(execution_id)


@router.get("/{execution_id}/events", response_class=StreamingResponse, responses=STREAM, dependencies=[STREAM_SLOT])
async def stream_execution(
    execution_id: UUID, stream: ExecutionStreamDep, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Streams all events, or those after `Last-Event-ID`, until the execution ends. Disconnecting does not stop it."""
    execution = await stream.find(execution_id)
    return event_stream(_frames(stream.follow(execution, last_event_id or 0)))


@router.post("/{execution_id}/cancel")
async def cancel_execution(execution_id: UUID, executions: Executions) -> ExecutionRead:
    """Cancels an execution and its subagents. An execution that has ended stays as it is."""
    return await executions.cancel(execution_id)


@router.post("/{execution_id}/approvals")
async def answer_approval(execution_id: UUID, data: ApprovalAnswer, executions: Executions) -> ExecutionRead:
    """Approves or denies a tool call that waits. An approval holds for exactly the arguments that were shown."""
    return await executions.answer(execution_id, data)


async def _frames(progress: AsyncIterator[ExecutionProgress]) -> AsyncIterator[bytes]:
    async for step in progress:
        yield KEEP_ALIVE if step.data is None else event(step.type, step.sequence, to_json(step.data).decode())
