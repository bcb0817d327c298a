"""Starts and follows executions through WebSockets, of one agent or a single one."""

from contextlib import aclosing
from functools import partial
from uuid import UUID

from fastapi import APIRouter, WebSocket
from pydantic import TypeAdapter
from starlette.datastructures import State

from app.api.v1.executions import execution_stream_of, executions_of
from app.api.websockets import Socket, WebSocketEndpointDep
from app.models.execution import Execution
from app.schemas.execution import ExecutionCreate
from app.schemas.execution_websocket import AgentFrame, Answer, ExecutionFrame, Resume, Send, Stop
from app.schemas.message import ApprovalAnswer
from app.services.agents.service import AgentService

AGENT_FRAMES = TypeAdapter[AgentFrame](AgentFrame)
EXECUTION_FRAMES = TypeAdapter[ExecutionFrame](ExecutionFrame)

router = APIRouter(tags=["agents"])


@router.websocket("/agents/{agent_id}/ws")
async def agent_socket(websocket: WebSocket, agent_id: UUID, endpoint: WebSocketEndpointDep) -> None:
    """Starts an execution for each `send` and sends its events. Closing the socket stops no execution."""
    state = websocket.app.state

    async def on_connect(socket: Socket) -> AgentSession:
        await AgentService(state.database, state.ai, state.output_checker, socket.user.id).get(agent_id)
        return AgentSession(state, socket, agent_id)

    await endpoint.serve("agents", AGENT_FRAMES, on_connect)


@router.websocket("/executions/{execution_id}/ws")
async def execution_socket(websocket: WebSocket, execution_id: UUID, endpoint: WebSocketEndpointDep) -> None:
    """Sends all events of an execution from the first on; `resume` begins again after one of them."""

    async def on_connect(socket: Socket) -> ExecutionSession:
        talk = ExecutionSession(websocket.app.state, socket)
        await talk.follow(execution_id)
        return talk

    await endpoint.serve("agents", EXECUTION_FRAMES, on_connect)


class ExecutionSession:
    """Handles the frames of one socket, and sends the events of the executions that it follows."""

    def __init__(self, state: State, socket: Socket) -> None:
        self._executions = executions_of(state, socket.user.id)
        self._stream = execution_stream_of(state, socket.user.id)
        self._socket = socket

    async def __call__(self, frame: ExecutionFrame) -> None:
        match frame:
            case Resume():
                await self.follow(frame.execution_id, frame.sequence, frame.ref)
            case Answer():
                data = ApprovalAnswer(**frame.model_dump(include=set(ApprovalAnswer.model_fields)))
                await self._executions.answer(frame.execution_id, data)
                await self._follow_unless(frame.execution_id, frame.ref)
            case Stop():
                await self._executions.cancel(frame.execution_id)
                await self._follow_unless(frame.execution_id, frame.ref)
            case _:
                raise AssertionError("auth and ping frames are handled by Listener")

    async def follow(self, execution_id: UUID, sequence: int = 0, ref: str | None = None) -> None:
        """Sends the events after `sequence`, and those to come. Raises NotFound."""
        execution = await self._stream.find(execution_id)
        self._socket.start(execution_id, partial(self._send_events, execution, sequence, ref), ref)

    async def _follow_unless(self, execution_id: UUID, ref: str | None) -> None:
        """Follows an execution from its last event on, unless this socket follows it already."""
        if not self._socket.has(execution_id):
            execution = await self._stream.find(execution_id)
            await self.follow(execution_id, max(execution.last_sequence - 1, 0), ref)

    async def _send_events(self, execution: Execution, sequence: int, ref: str | None) -> None:
        async with aclosing(self._stream.follow(execution, sequence)) as progress:
            async for step in progress:
                if step.data is not None:  # keep-alive is left to the pings of the protocol
                    await self._socket.send(step.data, ref)


class AgentSession(ExecutionSession):
    def __init__(self, state: State, socket: Socket, agent_id: UUID) -> None:
        super().__init__(state, socket)
        self._agent_id = agent_id

    async def __call__(self, frame: AgentFrame) -> None:
        if isinstance(frame, Send):
            await self._send(frame)
        else:
            await super().__call__(frame)

    async def _send(self, frame: Send) -> None:
        self._socket.check_room()  # before anything is stored
        data = ExecutionCreate(input=frame.input)
        execution = await self._executions.execute(self._agent_id, data, frame.idempotency_key)
        await self.follow(execution.id, 0, frame.ref)
