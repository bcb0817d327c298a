"""Tests what the server's WebSockets withstand from malicious peers."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode

from app.core import server_protocols as under_test
from tests.conftest import bound

BUFFER = 4096
LARGE = "x" * 2_000_000


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Patient:
    """Reads until its client leaves."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            self.heard.set()


async def talkative(_scope: Scope, receive: Receive, send: Send) -> None:
    """Sends a large message when it is asked to, and ends."""
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    await send({"type": "websocket.send", "text": LARGE})


@asynccontextmanager
async def connection_to(app: ASGIApp) -> AsyncGenerator[tuple[ClientConnection, set[Any]]]:
    """Yields a connection with small buffers that its client does not read, and the server's set of connections."""
    with bound() as listener, socket.socket() as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        client.connect(listener.getsockname())
        client.setblocking(False)
        config = uvicorn.Config(app, ws="app.core.server_protocols:WebSocketProtocol", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            async with connect("ws://test/", sock=client, ping_interval=None, compression=None) as connection:
                connection.transport.pause_reading()
                yield connection, server.server_state.connections
                connection.transport.abort()
        finally:
            server.should_exit = True
            await serving


def write(connection: ClientConnection, *frames: Frame) -> None:
    connection.transport.write(b"".join(frame.serialize(mask=True) for frame in frames))


async def test_a_peer_that_takes_nothing_cannot_keep_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "CLOSE_SECONDS", 0.05)
    async with connection_to(talkative) as (connection, kept):
        write(connection, Frame(Opcode.TEXT, b"go on"))
        await until(lambda: not kept)


async def test_pongs_do_not_pile_up() -> None:
    patient = Patient()
    async with connection_to(patient) as (connection, [kept]):
        write(connection, *[Frame(Opcode.PING, b"x" * 125)] * 8_000, Frame(Opcode.TEXT, b"that was all"))
        await patient.heard.wait()
        assert kept.transport.get_write_buffer_size() < 400_000  # of the 1,016,000 bytes of all pongs


async def test_a_peer_that_reads_gets_its_pongs() -> None:
    async with connection_to(Patient()) as (connection, _kept):
        connection.transport.resume_reading()
        async with asyncio.timeout(5):
            await (await connection.ping())


async def test_empty_continuations_do_not_pile_up() -> None:
    async with connection_to(Patient()) as (connection, [kept]):
        write(connection, Frame(Opcode.TEXT, b"", fin=False), *[Frame(Opcode.CONT, b"", fin=False)] * 1_000)
        write(connection, Frame(Opcode.CONT, b"{}", fin=False), Frame(Opcode.PING, b""))
        await until(lambda: kept.frames)
        await until(lambda: b"{}" in kept.frames)
        assert len(kept.frames) == 2
