import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator
from starlette.datastructures import State

from app.api.deps import CurrentUser, IdempotencyKey
from app.api.errors import problem_responses
from app.api.sse import KEEP_ALIVE, STREAM, STREAM_SLOT, event, event_stream
from app.core.config import read_settings
from app.repositories.principal import Scopes
from app.schemas.message import FeedbackUpdate, MessageCreate, MessageRead, RegenerateCreate
from app.services.chat.background_models import open_background_model
from app.services.chat.limits import ChatLimits
from app.services.chat.messages import ChatService
from app.services.chat.replies import open_replies
from app.services.chat.settings import ChatSettings
from app.services.chat.stream import Progress, open_reply_watch
from app.services.chat.summaries import HistorySummaries
from app.services.chat.titles import TitleWriter
from app.services.chat.writers import AgentWriter

EVENT_ID = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}\.[0-9]{1,9})?")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    state = app.state
    state.chat_settings = settings = read_settings(ChatSettings)
    state.features.append("chat")
    state.limits["message_characters"] = settings.message_max_characters
    state.chat_limits = ChatLimits(
        state.rate_limiter,
        state.budgets,
        messages_per_minute=settings.messages_per_minute,
        max_concurrent_replies=settings.max_concurrent_replies,
    )
    job_needs = (state.settings, settings, state.telemetry, state.database)
    async with (
        open_background_model("TITLE_MODEL", *job_needs) as title_model,
        open_background_model("HISTORY_SUMMARY_MODEL", *job_needs) as summary_model,
        open_reply_watch(state.database, state.streams) as state.reply_watch,
        open_replies(
            state.database,
            state.streams,
            state.ai,
            heartbeat=state.heartbeat,
            supervisor=state.supervisor,
            shutdown=state.shutdown,
            writes_titles=title_model is not None,
        ) as state.replies,
    ):
        state.titles = title_model and TitleWriter(state.database, title_model)
        state.history_summaries = summary_model and HistorySummaries(
            state.database, summary_model, settings.history_max_tokens
        )
        yield


def agents_of(state: State, user_id: UUID, scopes: Scopes = None) -> AgentWriter | None:
    """Returns who writes the replies of agents, where there are any; `scopes` are those of an API key."""
    build: Callable[[UUID, Scopes], AgentWriter] | None = getattr(state, "agent_replies", None)
    return build and build(user_id, scopes)


router = APIRouter(prefix="/chat/messages", tags=["chat"], lifespan=lifespan)


def chat_of(state: State, user_id: UUID, scopes: Scopes = None) -> ChatService:
    return ChatService(
        state.chat_settings,
        state.database,
        state.streams,
        state.replies,
        state.reply_watch,
        chat_limits=state.chat_limits,
        agents=agents_of(state, user_id, scopes),
        user_id=user_id,
    )


async def chat_service(request: Request, user: CurrentUser) -> ChatService:
    return chat_of(request.app.state, user.id, user.scopes)


def _event_id(value: str) -> str:
    if not EVENT_ID.fullmatch(value):
        raise ValueError("it must be the id of an event: a number, or three numbers with dots between them")
    return value


LastReplyEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="The `id` of the last event that arrived"),
    AfterValidator(lambda value: value if value is None else _event_id(value)),
]
Chat = Annotated[ChatService, Depends(chat_service)]


@router.post("", status_code=201, responses=problem_responses(402))
async def send_message(data: MessageCreate, chat: Chat, key: IdempotencyKey = None) -> MessageRead:
    """Sends a message, waits for the reply and returns it. A reply that failed says so in its `status`.

    That of an agent is returned as `pending` when a tool call waits for approval, or for the client to run it.
    """
    exchange = await chat.send(data, key)
    return await chat.wait(exchange.reply)


@router.post(
    "/stream", response_class=StreamingResponse, responses=STREAM | problem_responses(402), dependencies=[STREAM_SLOT]
)
async def stream_message(data: MessageCreate, chat: Chat, key: IdempotencyKey = None) -> StreamingResponse:
    """Sends a message and streams the reply. Disconnecting does not stop the reply."""
    exchange = await chat.send(data, key)
    return event_stream(_frames(chat.follow(exchange)))


@router.post("/{message_id}/regenerate", status_code=201, responses=problem_responses(402))
async def regenerate_message(
    message_id: UUID, data: RegenerateCreate, chat: Chat, key: IdempotencyKey = None
) -> MessageRead:
    """Generates another reply to the same message, waits for it and returns it. The first reply stays in its branch."""
    exchange = await chat.regenerate(message_id, data, key)
    return await chat.wait(exchange.reply)


@router.post(
    "/{message_id}/regenerate/stream",
    response_class=StreamingResponse,
    responses=STREAM | problem_responses(402),
    dependencies=[STREAM_SLOT],
)
async def stream_regenerated_message(
    message_id: UUID, data: RegenerateCreate, chat: Chat, key: IdempotencyKey = None
) -> StreamingResponse:
    """Generates another reply to the same message and streams it. Disconnecting does not stop the reply."""
    exchange = await chat.regenerate(message_id, data, key)
    return event_stream(_frames(chat.follow(exchange)))


@router.get("/{message_id}/stream", response_class=StreamingResponse, responses=STREAM, dependencies=[STREAM_SLOT])
async def resume_stream(message_id: UUID, chat: Chat, last_event_id: LastReplyEventId = None) -> StreamingResponse:
    """Streams a reply from its beginning, or from after `Last-Event-ID`, even if it has ended."""
    exchange = await chat.find(message_id)
    return event_stream(_frames(chat.follow(exchange, last_event_id)))


@router.post("/{message_id}/stop")
async def stop_message(message_id: UUID, chat: Chat) -> MessageRead:
    """Stops a reply, which keeps the text that it has. A reply that has ended stays as it is."""
    return await chat.wait(await chat.stop(message_id))


@router.put("/{message_id}/feedback")
async def rate_message(message_id: UUID, data: FeedbackUpdate, chat: Chat) -> MessageRead:
    """Stores feedback on a reply, in place of any earlier feedback."""
    return await chat.rate(message_id, data)


async def _frames(progress: AsyncIterator[Progress]) -> AsyncIterator[bytes]:
    async for step in progress:
        if step.event is None:
            yield KEEP_ALIVE
        else:
            yield event(step.event.type, step.offset, step.event.model_dump_json())
