"""Tests how WebSockets of the chat are closed by a real server process."""

import asyncio
import json
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode

from tests.integration.conftest import StartServer
from tests.integration.test_chat_server import signed_in
from tests.server import Server
from tests.sockets import close_code, served

PATH = "/api/v1/chat/ws"
HANDSHAKE = (
    f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()


@pytest.fixture
def file(migrated_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(migrated_file, tmp_path / "app.db"))


@pytest.fixture
def database_url(file: Path) -> str:
    """Uses SQLite only, since what is tested here does not depend on the database."""
    return f"sqlite:///{file}"


def status_of_the_reply(file: Path) -> str:
    with closing(sqlite3.connect(file)) as database:
        [(status,)] = database.execute("SELECT status FROM messages WHERE role = 'assistant'")
        return status


async def take_nothing(server: Server, client: httpx2.AsyncClient) -> None:
    """Sends messages, and reads none, until the server closes the socket for its slow reader."""
    with socket.socket() as narrow:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
        narrow.setblocking(False)
        async with served(server.url, PATH, client, sock=narrow, close_timeout=0.1) as connection:
            connection.transport.pause_reading()
            for _ in range(20):
                await connection.send(json.dumps({"type": "send", "content": "x" * 400_000}))
            await server.says("slow_reader")
            connection.transport.abort()


async def test_what_a_socket_is_closed_with(start_server: StartServer) -> None:
    settings = {"SOCKET_SEND_TIMEOUT": "0.2", "MESSAGE_MAX_CHARACTERS": "400000"}
    async with start_server(**settings) as server, signed_in(server) as client:
        async with served(server.url, PATH, client) as connection:
            assert connection.subprotocol == "bearer"
            await connection.send('{"type": "send", "content": "hello"}')
            assert json.loads(await connection.recv())["type"] == "message.created"
            await connection.send("x" * 600_000)
            assert await close_code(connection) == 1009
        async with served(server.url, PATH, client) as connection:
            connection.transport.write(Frame(Opcode.TEXT, b"\xff").serialize(mask=True))
            assert await close_code(connection) == 1007
        with pytest.raises(InvalidStatus, match="403"):
            await served(server.url, PATH, client, origin="https://evil.example")  # pyright: ignore
        await take_nothing(server, client)
        await client.post("/api/v1/auth/logout")
        async with served(server.url, f"{PATH}?token=secret", client) as connection:
            assert (await close_code(connection), connection.close_reason) == (4401, "unauthenticated")
        assert await server.stop() == 0
        assert "code=4401" in server.output
        for word in ("Traceback", "[error", "[warning", "secret"):
            assert word not in server.output


async def test_a_shutdown_closes_sockets_before_it_waits_for_replies(start_server: StartServer, file: Path) -> None:
    async with start_server(DEMO_MODEL_DELAY="0.02") as server, signed_in(server) as client:
        async with served(server.url, PATH, client) as connection:
            await connection.send('{"type": "send", "content": "hello"}')
            await connection.recv()
            ending = asyncio.create_task(server.stop())
            assert await close_code(connection) == 1012
            assert status_of_the_reply(file) == "pending"
        assert await ending == 0
    assert status_of_the_reply(file) == "completed"


async def test_an_idle_socket_is_pinged(start_server: StartServer) -> None:
    async with start_server(SOCKET_PING_INTERVAL="0.2") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.url.rpartition(":")[2])
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(4):
            assert (await reader.readexactly(2))[0] == 0x89  # a whole frame: a ping
        writer.close()
