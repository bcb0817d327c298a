"""Streams server-sent events by a plain StreamingResponse: FastAPI's own needs two more tasks and two more streams."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.types import Receive, Scope, Send

from app.api.deps import CurrentUser
from app.core.streams.base import KEEP_ALIVE_SECONDS
from app.core.telemetry.meters import meter, open_one

KEEP_ALIVE = b": keep-alive\n\n"
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
"""Keeps proxies from holding events back, which they also do while they compress."""

_open = meter.create_up_down_counter("app.streams", "{stream}", "Streams of events that are open.")

Responses = dict[int | str, dict[str, Any]]


def _describe(*fields: str) -> Responses:
    event = {"type": "object", "required": fields, "properties": {field: {"type": "string"} for field in fields}}
    description = f"Server-sent events, and a comment after each {KEEP_ALIVE_SECONDS:g} s without one"
    return {200: {"description": description, "content": {"text/event-stream": {"itemSchema": event}}}}


STREAM = _describe("event", "id", "data")
"""Describes the answer of a route that streams, for its `responses=`."""
DATA_STREAM = _describe("data")
"""Describes a stream whose events have neither names nor ids, as those of other protocols."""

LastEventId = Annotated[int | None, Header(ge=0, le=2**31 - 1, description="The `id` of the last event that arrived")]
"""Names the last event that a reconnecting client has received; its stream continues after it."""


async def _held(request: Request, user: CurrentUser) -> AsyncGenerator[None]:
    async with request.app.state.sockets.acquire(str(user.id)):
        yield


STREAM_SLOT = Depends(_held)
"""Limits how many streams and sockets a user may hold open at once: a route that streams holds one until it ends."""


def event(type: str, id: int | str, data: str) -> bytes:
    return format_sse_event(event=type, id=str(id), data_str=data)


class _EventStream(StreamingResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with open_one(_open):
            await super().__call__(scope, receive, send)


def event_stream(content: AsyncIterator[bytes]) -> StreamingResponse:
    return _EventStream(content, media_type="text/event-stream", headers=HEADERS)
