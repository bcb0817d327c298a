"""Server-sent events. A plain StreamingResponse: FastAPI's own costs two tasks and two streams a response more."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

KEEP_ALIVE = b": keep-alive\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

_EVENT = {
    "type": "object",
    "required": ["event", "id", "data"],
    "properties": {"event": {"type": "string"}, "id": {"type": "string"}, "data": {"type": "string"}},
}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {"itemSchema": _EVENT}}}
}
"""`responses=` of a route that streams."""


def event(type: str, id: int, data: str) -> bytes:
    return format_sse_event(event=type, id=str(id), data_str=data)


def event_stream(content: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(content, media_type="text/event-stream", headers=HEADERS)
