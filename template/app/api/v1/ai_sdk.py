"""Speaks the language of the AI SDK, so that `useChat` shows conversations of this service."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.responses import StreamingResponse

from app.api.deps import IdempotencyKey
from app.api.errors import problem_responses
from app.api.sse import DATA_STREAM, KEEP_ALIVE, STREAM_SLOT, event_stream
from app.api.v1.chat import Chat
from app.api.v1.conversations import Conversations
from app.core.errors import Conflict, Invalid, NotFound
from app.models.message import MessageStatus
from app.schemas.ai_sdk import ChatId, ChatMessages, ChatRequest
from app.schemas.message import MessageCreate
from app.services.ai_sdk.chunks import ASKS, DONE, HEADERS, STOPPING, ChunkWriter
from app.services.ai_sdk.messages import to_ui_messages
from app.services.ai_sdk.requests import Continuation, Edit, NothingAsked, Regeneration, read_request
from app.services.chat.messages import ChatService, Thread
from app.services.chat.stream import Progress, Reply
from app.services.chat.turns import Exchange

MAX_MESSAGES = 100
value_limits = {"/ai-sdk/chat": 200_000}
"""Allows clients to send all messages that they have."""

router = APIRouter(prefix="/ai-sdk/chat", tags=["chat"])

ChatIdPath = Annotated[ChatId, Path()]


@router.post(
    "", response_class=StreamingResponse, responses=DATA_STREAM | problem_responses(402), dependencies=[STREAM_SLOT]
)
async def send(data: ChatRequest, chat: Chat, key: IdempotencyKey = None) -> StreamingResponse:
    """Sends the last message, answers one again, or answers tool calls, and streams the reply as chunks."""
    thread = await chat.find_thread(data.id)
    request = read_request(data, thread)
    if isinstance(request, Continuation):
        return await _go_on(chat, request, thread)
    reply = (await _begin(chat, request, data, thread, key)).reply
    return _stream(chat, reply, ChunkWriter(reply.message, {tool.name for tool in data.tools}))


@router.get("/{id}")
async def read_messages(id: ChatIdPath, chat: Chat, conversations: Conversations) -> ChatMessages:
    """Returns the newest messages of a conversation, with which a chat begins."""
    thread = await chat.find_thread(id)
    if thread is None:
        raise NotFound("Conversation", id)
    page = await conversations.messages(thread.conversation_id, MAX_MESSAGES, None, None)
    return ChatMessages(id=id, messages=to_ui_messages(page.items))


@router.get("/{id}/stream", response_class=StreamingResponse, responses=DATA_STREAM, dependencies=[STREAM_SLOT])
async def resume(id: ChatIdPath, chat: Chat) -> Response:
    """Streams the reply that has not ended from its beginning, until it waits for somebody; 204 if all have ended."""
    thread = await chat.find_thread(id)
    if thread is None or thread.last_id is None:
        return Response(status_code=204)
    message = await chat.read(thread.last_id)
    if message.status is not MessageStatus.pending:
        return Response(status_code=204)
    return _stream(chat, Reply(message), ChunkWriter(message, await chat.client_tools(message)))


async def _begin(
    chat: ChatService,
    request: MessageCreate | Edit | Regeneration,
    data: ChatRequest,
    thread: Thread | None,
    key: str | None,
) -> Exchange:
    """Stores the message or finds it, and begins the reply. Raises NotFound, and what sending raises."""
    sent = None if key is None else _identity(data)
    message = request if isinstance(request, MessageCreate) else request.message
    if isinstance(request, Edit):
        replaced = {"replaces": await chat.find_first(request.conversation_id, request.named)}
        message = request.message.model_copy(update=replaced)
    elif isinstance(request, Regeneration) and thread is not None:
        content = message and message.content
        reply_id = await chat.find_reply(thread.conversation_id, request.named, request.parent_id, content)
        if reply_id is not None:
            return await chat.regenerate(reply_id, request.data, key, request=sent)
    if message is None:
        raise NotFound("Message", data.messageId)
    return await chat.send(message, key, client_id=data.id, request=sent)


def _identity(data: ChatRequest) -> str:
    """Returns what a request says, whatever a client has put into its earlier messages. Raises Invalid."""
    try:
        return f"ai-sdk {data!r}"
    except RecursionError:
        raise Invalid("The messages are nested too deeply.") from None


async def _go_on(chat: ChatService, request: Continuation, thread: Thread | None) -> StreamingResponse:
    """Gives the answers for which the reply waits, and streams what comes after the calls."""
    message = await chat.read(request.reply_id)
    if thread is None or message.conversation_id != thread.conversation_id:
        raise NotFound("Reply", request.reply_id)
    pause = await chat.find_pause(message.id, request.calls)
    if pause is None:
        raise NothingAsked("The reply has asked for no answer to a tool call.")
    approvals, results = request.answers(message)
    with suppress(Conflict):  # another device was faster, or they have expired: the reply goes on all the same
        for approval in approvals:
            await chat.answer(message.id, approval)
        if results is not None:
            await chat.give_results(message.id, results)
    reply = (await chat.find(message.id)).reply
    writer = ChunkWriter(message, await chat.client_tools(message), pause, request.calls)
    return _stream(chat, reply, writer, pause.place)


def _stream(chat: ChatService, reply: Reply, writer: ChunkWriter, place: str | None = None) -> StreamingResponse:
    response = event_stream(_chunks(chat, writer, chat.follow_reply(reply, place)))
    response.headers.update(HEADERS)
    return response


async def _chunks(chat: ChatService, writer: ChunkWriter, progress: AsyncGenerator[Progress]) -> AsyncGenerator[bytes]:
    yield writer.begin()
    async with aclosing(progress):
        async for step in progress:
            event = step.event
            if event is None:
                yield KEEP_ALIVE
                continue
            if chunks := writer.write(event):
                yield chunks
            if type(event) in ASKS and (chunks := writer.wait(event, await chat.read(writer.reply_id))):
                yield chunks
            if writer.is_over:
                break
        else:
            yield writer.fail(STOPPING)
    yield DONE
