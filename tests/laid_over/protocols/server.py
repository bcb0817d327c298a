"""Runs a small HTTP server on loopback that sends what a test scripts, frame by frame, and keeps its requests."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any


class End(Enum):
    whole = auto()
    cut = auto()
    """Closes the connection in the middle of the answer."""
    silence = auto()
    """Sends nothing more until the client gives up."""


@dataclass(frozen=True)
class Answer:
    """Describes an answer; its head is sent with the first frame, so silence without frames sends no byte at all."""

    frames: Sequence[bytes | asyncio.Event] = ()
    """Lists the frames, each of which is sent at once; an event is waited for."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    end: End = End.whole


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.content)


class Server:
    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Request] = []
        self.connections: list[asyncio.Event] = []
        """Holds an event for each connection that was ever opened, which is set when the connection closes."""
        self._answers: deque[Answer] = deque()

    def will(self, *answers: Answer) -> None:
        """Scripts one answer for each request, the last one for all that follow; forgets earlier requests."""
        self.requests.clear()
        self._answers = deque(answers)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed = asyncio.Event()
        self.connections.append(closed)
        try:
            # A client that leaves between two requests, or in the middle of one, is no failure of the server.
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            writer.close()
            closed.set()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.requests.append(await _read(reader))
        answer = self._answers.popleft() if len(self._answers) > 1 else self._answers[0]
        await _send(writer, answer)
        if answer.end is End.silence:
            await reader.read()
        return answer.end is End.whole


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(first.split()[1], headers, content)


async def _send(writer: asyncio.StreamWriter, answer: Answer) -> None:
    for number, frame in enumerate(answer.frames):
        if isinstance(frame, asyncio.Event):
            await frame.wait()
            continue
        if number == 0:
            writer.write(_head(answer))
        writer.write(b"%x\r\n%b\r\n" % (len(frame), frame))
        await writer.drain()
    if answer.end is End.whole:
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _head(answer: Answer) -> bytes:
    headers = {"content-type": "text/event-stream", **answer.headers, "transfer-encoding": "chunked"}
    lines = [f"HTTP/1.1 {answer.status} -", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def serve() -> AsyncGenerator[Server]:
    conversations: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(server.converse(reader, writer))
        conversations.add(task)
        task.add_done_callback(conversations.discard)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    server = Server(f"http://{host}:{port}")
    try:
        yield server
    finally:
        listener.close()
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
        await listener.wait_closed()


def event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """Formats one server-sent event."""
    return (f"event: {name}\n" if name else "").encode() + f"data: {json.dumps(data)}\n\n".encode()


def problem(status: int, data: Mapping[str, Any], **headers: str) -> Answer:
    """Returns an error response in JSON, which comes in place of a stream."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer([json.dumps(data).encode()], status, {"content-type": "application/json", **names})
