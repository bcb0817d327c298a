"""Serves the chat through one WebSocket: any number of conversations, whose events are sent as they happen."""

from contextlib import aclosing
from functools import partial

from fastapi import APIRouter, WebSocket
from pydantic import TypeAdapter

from app.api.v1.chat import chat_of
from app.api.websockets import Socket, WebSocketEndpointDep
from app.schemas.chat_websocket import Answer, ClientFrame, Regenerate, Resume, Send, Stop, ToolResults
from app.schemas.client_tool import ToolResultsCreate
from app.schemas.message import ApprovalAnswer, MessageCreate, RegenerateCreate
from app.services.chat.messages import ChatService
from app.services.chat.stream import REPLY_ENDS, Progress, Reply
from app.services.chat.turns import Exchange

FRAMES = TypeAdapter[ClientFrame](ClientFrame)

router = APIRouter(prefix="/chat", tags=["chat"])


@router.websocket("/ws")
async def chat_socket(websocket: WebSocket, endpoint: WebSocketEndpointDep) -> None:
    """Serves the chat to one person. Closing the socket stops no reply."""

    async def on_connect(socket: Socket) -> ChatSession:
        return ChatSession(chat_of(websocket.app.state, socket.user.id, socket.user.scopes), socket)

    await endpoint.serve("chat", FRAMES, on_connect)


class ChatSession:
    """Handles the frames of one socket, and sends the events of the replies that it follows."""

    def __init__(self, chat: ChatService, socket: Socket) -> None:
        self._chat = chat
        self._socket = socket

    async def __call__(self, frame: ClientFrame) -> None:
        match frame:
            case Send():
                await self._send(frame)
            case Regenerate():
                self._socket.check_room()
                data = RegenerateCreate(
                    **frame.model_dump(include=set(RegenerateCreate.model_fields), exclude_unset=True)
                )
                exchange = await self._chat.regenerate(frame.reply_id, data, frame.idempotency_key)
                self._follow(exchange, None, frame.ref)
            case Resume():
                exchange = await self._chat.find(frame.reply_id)
                self._follow(exchange, None if frame.offset is None else str(frame.offset), frame.ref)
            case Answer():
                data = ApprovalAnswer(**frame.model_dump(include=set(ApprovalAnswer.model_fields)))
                await self._chat.answer(frame.reply_id, data)
                await self._go_on(frame)
            case ToolResults():
                await self._chat.give_results(frame.reply_id, ToolResultsCreate(results=frame.results))
                await self._go_on(frame)
            case Stop():
                await self._stop(frame)
            case _:
                raise AssertionError("auth and ping frames are handled by Listener")

    async def _send(self, frame: Send) -> None:
        self._socket.check_room()  # before anything is stored
        data = MessageCreate(**frame.model_dump(include=set(MessageCreate.model_fields), exclude_unset=True))
        self._follow(await self._chat.send(data, frame.idempotency_key), None, frame.ref)

    async def _go_on(self, frame: Answer | ToolResults) -> None:
        """Follows a reply that goes on, unless the socket does so already."""
        if not self._socket.has(frame.reply_id):
            self._follow(await self._chat.find(frame.reply_id), None, frame.ref)

    async def _stop(self, frame: Stop) -> None:
        """Stops a reply, and sends its end unless the socket follows the reply and gets it anyway."""
        self._socket.check_room(frame.reply_id)
        reply = await self._chat.stop(frame.reply_id)
        if not self._socket.has(frame.reply_id):
            self._socket.start(frame.reply_id, partial(self._send_end, reply, frame.ref), frame.ref)

    def _follow(self, exchange: Exchange, after: str | None, ref: str | None) -> None:
        self._socket.start(exchange.reply.message.id, partial(self._send_events, exchange, after, ref), ref)

    async def _send_events(self, exchange: Exchange, after: str | None, ref: str | None) -> None:
        async with aclosing(self._chat.follow(exchange, after)) as progress:
            async for step in progress:
                await self._send_event(step, ref)

    async def _send_end(self, reply: Reply, ref: str | None) -> None:
        async with aclosing(self._chat.follow_reply(reply)) as progress:
            async for step in progress:
                if isinstance(step.event, REPLY_ENDS):
                    await self._send_event(step, ref)

    async def _send_event(self, step: Progress, ref: str | None) -> None:
        """Sends an event. Keep-alive is left to the pings of the WebSocket protocol."""
        if step.event is not None:
            await self._socket.send({**step.event.model_dump(), "offset": step.offset}, ref)
