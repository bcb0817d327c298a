"""Opens HTTP clients for servers that speak OpenAI's Chat Completions, each in its own way."""

import json
import re
from collections.abc import AsyncIterator, Iterator

import httpx2
from pydantic_ai.models import create_async_httpx2_client

from app.services.ai.chunk_reader import Chunk, ChunkReader
from app.services.ai.json_values import to_count, to_object, to_text

_PATH = "/chat/completions"
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\n|\Z)")
_BEFORE_ALL = b"\xef\xbb\xbf \t\r\n"
_ERRORS = {"message", "detail", "error_message", "error_type"}
"""Lists the fields in which servers describe an error."""


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
        response.stream = _RewrittenStream(response.stream)


class _RewrittenStream(httpx2.AsyncByteStream):
    """Rewrites the events that are chunks and passes on all others. An answer in one JSON document becomes a stream."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream
        self._reader = ChunkReader()
        self._lines: list[bytes] = []
        self._is_document = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for line in self._read_lines():
                for event in self._read(line):
                    yield event
        except httpx2.HTTPError:
            # After its finish reason an answer is whole, whatever happens to the connection.
            if not self._reader.is_finished:
                for event in self._end(is_done=False):
                    yield event
                raise
        for event in (*self._read(b""), *self._end(is_done=self._is_document)):
            yield event

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def _read_lines(self) -> AsyncIterator[bytes]:
        """Yields the lines without their ends. A document, whatever its head calls it, becomes one line of data."""
        unread, is_begun = b"", False
        async for data in self._stream:
            unread += data
            if not is_begun:
                unread = unread.lstrip(_BEFORE_ALL)
                is_begun, self._is_document = bool(unread), unread.startswith(b"{")
            if not self._is_document:
                *lines, unread = _LINE_END.split(unread)
                for line in lines:
                    yield line
        yield b"data:" + b" ".join(unread.splitlines()) if self._is_document else unread.strip()

    def _read(self, line: bytes) -> Iterator[bytes]:
        """Yields what a line completes. A line of data that is a chunk needs no blank line after it."""
        data = _data_in(line)
        if data.startswith(b"[DONE]"):
            self._lines = []
            yield from (*self._end(is_done=True), b"data: [DONE]\n\n")
        elif chunk := _to_chunk(data):
            self._lines = []
            yield from self._rewrite(chunk)
        elif line:
            self._lines.append(line)
        else:
            lines, self._lines = self._lines, []
            data = b"\n".join(filter(None, map(_data_in, lines)))
            if chunk := _to_chunk(data):
                yield from self._rewrite(chunk)
            elif data:
                yield b"\n".join([*lines, b"", b""])

    def _rewrite(self, chunk: Chunk) -> Iterator[bytes]:
        if chunk.get("error"):
            yield _to_event(chunk)
        elif _is_error(chunk):
            yield _to_event({"error": chunk})
        else:
            yield from map(_to_event, self._reader.read(chunk))

    def _end(self, *, is_done: bool) -> Iterator[bytes]:
        reader, self._reader = self._reader, ChunkReader()
        yield from map(_to_event, reader.end(is_done=is_done))


def _data_in(line: bytes) -> bytes:
    return line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""


def _to_chunk(data: bytes) -> Chunk | None:
    """Returns None for what is no chunk and no error, which the client handles."""
    try:
        chunk = to_object(json.loads(data))
    except (ValueError, RecursionError):
        return None
    return chunk if chunk and isinstance(chunk.get("choices") or [], list) else None


def _is_error(chunk: Chunk) -> bool:
    """Recognises an error that is not in the field `error`."""
    kind = to_text(chunk.get("type")).lower()
    is_said = bool(_ERRORS & chunk.keys()) and (not kind or "error" in kind)
    is_error = chunk.get("object") == "error" or to_count(to_object(chunk.get("base_resp")).get("status_code")) > 0
    return not chunk.get("choices") and (is_said or is_error)


def _to_event(chunk: Chunk) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"
