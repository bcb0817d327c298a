"""Opens WebSockets of the application, in the process of the test or on a server process."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2
from starlette.types import ASGIApp, Message
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

SECONDS = 10.0
HOSTILE = [
    "",
    "{",
    "null",
    "[]",
    '"ping"',
    "{}",
    '{"type": null}',
    '{"type": ["ping"]}',
    '{"type": "nothing"}',
    '{"type": "ping", "more": 1}',
    '{"type": "ping", "ref": 7}',
    '{"type": "ping", "ref": "%s"}' % ("x" * 101),
    '{"type": "ping", "ref": "\\u0000"}',
    '{"type": "echo", "text": 1e400}',
    '{"type": "echo", "text": "\\ud800"}',
    '{"type": "echo", "text": "\ud800"}',
    '{"type": "%s"}' % ("x" * 10_000),
    "[" * 100_000,
    '{"type":' * 10_000,
    '{"type": "echo", "times": %s}' % ("9" * 5_000),
]
"""Lists texts that are no valid frame of any socket."""
WRONG: list[Any] = [
    None,
    True,
    -1,
    0.5,
    10**400,
    "",
    " ",
    "\0",
    "\ud800",
    "x" * 200,
    "nonsense",
    [],
    [{}],
    {},
    {"a": {}},
]


class Socket:
    """Keeps what the application sends until the test reads it, which may be late, as with a slow client."""

    def __init__(self, *, room: int = 0) -> None:
        self.sent: asyncio.Queue[Message] = asyncio.Queue(room)
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.inbox.put_nowait({"type": "websocket.connect"})

    async def send(self, **frame: Any) -> None:
        await self.send_text(json.dumps(frame))

    async def send_text(self, text: str) -> None:
        await self.inbox.put({"type": "websocket.receive", "text": text})

    async def send_bytes(self, data: bytes) -> None:
        await self.inbox.put({"type": "websocket.receive", "bytes": data})

    async def leave(self, code: int = 1001) -> None:
        await self.inbox.put({"type": "websocket.disconnect", "code": code, "reason": ""})

    async def message(self) -> Message:
        """Returns the next ASGI message of the application."""
        async with asyncio.timeout(SECONDS):
            return await self.sent.get()

    async def frame(self) -> dict[str, Any]:
        message = await self.message()
        assert message["type"] == "websocket.send", message
        return json.loads(message["text"])

    async def until_ref(self, ref: str) -> list[dict[str, Any]]:
        """Returns all frames up to the one with this `ref`."""
        frames = [await self.frame()]
        while frames[-1].get("ref") != ref:
            frames.append(await self.frame())
        return frames

    async def until(self, *types: str) -> list[dict[str, Any]]:
        """Returns all frames up to the first of one of these types."""
        frames = [await self.frame()]
        while frames[-1]["type"] not in types:
            frames.append(await self.frame())
        return frames

    async def closed(self) -> tuple[int, str]:
        """Returns the close code and the reason; skips the frames before the close."""
        while (message := await self.message())["type"] != "websocket.close":
            pass
        return message.get("code", 1000), message.get("reason", "")


@asynccontextmanager
async def opening(
    app: ASGIApp, path: str, *, subprotocols: Sequence[str] = (), query: str = "", room: int = 0, **headers: str
) -> AsyncGenerator[Socket]:
    """Yields a socket that is not accepted yet; afterwards the application must end without an exception."""
    socket = Socket(room=room)
    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "ws",
        "query_string": query.encode(),
        "headers": [(b"host", b"test"), *((name.encode(), value.encode()) for name, value in headers.items())],
        "subprotocols": list(subprotocols),
        "client": ("test", 1),
        "extensions": {"websocket.http.response": {}},
    }
    task = asyncio.ensure_future(app(scope, socket.inbox.get, socket.sent.put))
    try:
        yield socket
        await socket.leave()
    finally:
        done, _ = await asyncio.wait({task}, timeout=SECONDS)
        task.cancel()
    assert done, "the application did not end"
    task.result()


@asynccontextmanager
async def connected(app: ASGIApp, path: str, client: httpx2.AsyncClient, **more: Any) -> AsyncGenerator[Socket]:
    """Opens a socket with the client's token."""
    async with opening(app, path, subprotocols=("bearer", token_of(client)), **more) as socket:
        assert await socket.message() == {"type": "websocket.accept", "subprotocol": "bearer", "headers": []}
        yield socket


def spoiled(frames: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields each frame without one of its fields, with a wrong value in one, and with an unknown one."""
    for frame in frames:
        for name in frame:
            yield {other: value for other, value in frame.items() if other != name}
            yield from ({**frame, name: wrong} for wrong in WRONG)
        yield {**frame, "more": 1}
        yield from ({**frame, "ref": wrong} for wrong in WRONG)


def served(url: str, path: str, client: httpx2.AsyncClient, **options: Any) -> connect:
    """Connects to a server process with the client's token."""
    address = url.replace("http://", "ws://") + path
    return connect(address, subprotocols=["bearer", token_of(client)], compression=None, **options)  # pyright: ignore


def token_of(client: httpx2.AsyncClient) -> str:
    return client.headers["Authorization"].removeprefix("Bearer ")


async def close_code(connection: ClientConnection) -> int | None:
    """Returns the close code of the server; skips the frames before it."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(SECONDS):
            while True:
                await connection.recv()
    return connection.close_code
