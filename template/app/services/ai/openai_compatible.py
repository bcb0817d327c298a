"""Opens HTTP clients for servers that speak OpenAI's Chat Completions, each in its own way."""

import json
import re
from collections.abc import AsyncIterator, Iterator

import httpx2
from pydantic_ai.models import create_async_httpx2_client

from app.services.ai.chunk_reader import Chunk, ChunkReader
from app.services.ai.json_values import to_object

_PATH = "/chat/completions"
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")


def open_http_client() -> httpx2.AsyncClient:
    """Opens a client that returns every stream of chunks as OpenAI's own server would send it."""
    client = create_async_httpx2_client()
    hooks = client.event_hooks
    client.event_hooks = {"request": [*hooks["request"], _ask_uncompressed], "response": [_rewrite]}
    return client


async def _ask_uncompressed(request: httpx2.Request) -> None:
    if request.url.path.endswith(_PATH):
        request.headers["accept-encoding"] = "identity"


async def _rewrite(response: httpx2.Response) -> None:
    is_stream = response.status_code == 200 and response.request.url.path.endswith(_PATH)
    is_plain = response.headers.get("content-encoding", "identity") == "identity"
    if is_stream and is_plain and isinstance(response.stream, httpx2.AsyncByteStream):
        is_json = response.headers.get("content-type", "").startswith("application/json")
        response.stream = _RewrittenStream(response.stream, is_json=is_json)


class _RewrittenStream(httpx2.AsyncByteStream):
    """Rewrites the events that are chunks and passes on all others. An answer in one JSON document becomes a stream."""

    def __init__(self, stream: httpx2.AsyncByteStream, *, is_json: bool) -> None:
        self._stream = stream
        self._is_json = is_json
        self._reader = ChunkReader()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for event in _read_document(self._stream) if self._is_json else _read_events(self._stream):
                for rewritten in self._rewrite(event):
                    yield rewritten
        except httpx2.HTTPError:
            for rewritten in self._end(is_done=False):
                yield rewritten
            raise
        for rewritten in self._end(is_done=self._is_json):
            yield rewritten

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _rewrite(self, event: bytes) -> Iterator[bytes]:
        lines = [line.removeprefix(b"data:").strip() for line in event.splitlines() if line.startswith(b"data:")]
        is_one = len(lines) == 1 or any(_to_chunk(line) is None for line in lines)  # some leave out blank lines
        for data in filter(None, [b"\n".join(lines)] if is_one else lines):
            if data.startswith(b"[DONE]"):
                yield from self._end(is_done=True)
            if (chunk := _to_chunk(data)) is None:
                yield event + b"\n\n"
            elif _is_error(chunk):
                yield _to_event({"error": chunk})
            else:
                yield from map(_to_event, self._reader.read(chunk))

    def _end(self, *, is_done: bool) -> Iterator[bytes]:
        reader, self._reader = self._reader, ChunkReader()
        yield from map(_to_event, reader.end(is_done=is_done))


async def _read_events(stream: httpx2.AsyncByteStream) -> AsyncIterator[bytes]:
    unread = b""
    async for data in stream:
        *events, unread = _BLANK_LINE.split(unread + data)
        for event in events:
            yield event
    if unread:
        yield unread


async def _read_document(stream: httpx2.AsyncByteStream) -> AsyncIterator[bytes]:
    document = b"".join([data async for data in stream])
    yield b"data: " + b" ".join(document.splitlines())


def _to_chunk(data: bytes) -> Chunk | None:
    """Returns None for what is no chunk, such as an error, which the client handles."""
    try:
        chunk = to_object(json.loads(data))
    except (ValueError, RecursionError):
        return None
    return chunk if chunk and not chunk.get("error") and isinstance(chunk.get("choices") or [], list) else None


def _is_error(chunk: Chunk) -> bool:
    """Recognises an error that is not in the field `error`, as of vLLM."""
    return chunk.get("object") == "error" or ("choices" not in chunk and bool({"message", "detail"} & chunk.keys()))


def _to_event(chunk: Chunk) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"
