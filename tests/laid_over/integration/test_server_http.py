"""Tests what the server's HTTP connections withstand from peers that send or read too slowly or too much."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import closing

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from app.core import server_protocols as under_test
from app.core.server_protocols import HttpProtocol
from tests.conftest import bound

GET = b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
HEAD = b"GET / HTTP/1.1\r\n"
UPGRADE = HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
SHORT = {"HEAD_SECONDS": 0.1, "BODY_SECONDS": 0.1, "STALL_SECONDS": 0.2, "CHECK_SECONDS": 0.02}
LONG = b"x" * 100_000


class Application:
    """Answers `/held` once the test sets `go_on`, `/early` before the body has come, and all else at once."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while scope["path"] != "/early" and (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/held":
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            await self.go_on.wait()
        body = LONG * 200 if scope["path"] == "/large" else b"done"
        await send({"type": "http.response.body", "body": body, "more_body": False})


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.send = writer.write
        self.close = writer.close

    async def hears(self, words: bytes) -> None:
        async with asyncio.timeout(10):
            await self._reader.readuntil(words)

    async def rest(self) -> bytes:
        """Returns all that comes until the server closes the connection."""
        with closing(self):
            try:
                async with asyncio.timeout(10):
                    return await self._reader.read()
            except ConnectionResetError:
                return b""


class Served:
    def __init__(self, server: uvicorn.Server, port: int, app: Application) -> None:
        self.connections = server.server_state.connections
        self.app = app
        self._port = port

    async def connect(self, sent: bytes = b"") -> Connection:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self._port))
        connection.send(sent)
        return connection

    async def answer(self, sent: bytes) -> bytes:
        return await (await self.connect(sent)).rest()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.connections) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Served]:
    """Serves the application with time limits that are shorter than real ones."""
    for name, seconds in SHORT.items():
        monkeypatch.setattr(under_test, name, seconds)
    app = Application()
    ws = "app.core.server_protocols:WebSocketProtocol"
    config = uvicorn.Config(
        app, http=HttpProtocol, ws=ws, log_config=None, timeout_graceful_shutdown=5, timeout_keep_alive=75
    )
    server = uvicorn.Server(config)
    with bound() as listener:
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield Served(server, listener.getsockname()[1], app)
        finally:
            app.go_on.set()
            server.should_exit = True
            await serving


async def test_a_connection_without_a_request_ends(served: Served) -> None:
    assert await served.answer(b"") == b""


async def test_a_request_that_does_not_go_on_is_ended(served: Served) -> None:
    begun = (HEAD, b"G", b"\r\n", UPGRADE, POST % b"/", CHUNKED, POST % b"/" + b"x")
    for answer in await asyncio.gather(*map(served.answer, begun)):
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_so_is_one_that_follows_another(served: Served) -> None:
    for begun in (HEAD, b"\r\n"):
        connection = await served.connect(GET % b"/")
        await connection.hears(b"0\r\n\r\n")
        connection.send(begun)
        assert (await connection.rest()).startswith(b"HTTP/1.1 408 ")


async def test_so_is_one_that_was_answered_before_it_was_whole(served: Served) -> None:
    for more in (0, 999, 1_000):
        connection = await served.connect(POST % b"/early")
        await connection.hears(b"0\r\n\r\n")
        connection.send(b"x" * more)
        await connection.rest()


async def test_an_answer_may_take_as_long_as_it_likes(served: Served) -> None:
    connection = await served.connect(GET % b"/held")
    await connection.hears(b"begun")
    for _ in range(3):
        await served.answer(HEAD)
    served.app.go_on.set()
    await connection.hears(b"done")
    connection.close()


async def test_a_body_may_take_longer_the_longer_it_is(served: Served) -> None:
    connection = await served.connect(POST % b"/" + b"x" * 999)
    for _ in range(3):
        await served.answer(HEAD)
    connection.send(b"x")
    await connection.hears(b"done")
    connection.close()


async def test_a_head_has_a_largest_size(served: Served) -> None:
    large = {
        "no request": LONG,
        "address": b"GET /" + LONG,
        "field": HEAD + b"a: " + LONG,
        "fields": HEAD + b"a: b\r\n" * 200,
        "whole": HEAD + b"a: " + LONG[:40_000] + b"\r\n\r\n",
        "upgrade": UPGRADE + b"a: " + LONG,
        "field after a body": CHUNKED + b"0\r\na: " + LONG * 5,
        "fields after a body": CHUNKED + b"0\r\n" + b"a: b\r\n" * 200,
    }
    for name, sent in large.items():
        answer = await served.answer(sent)
        assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")) or not answer, name
    await served.until(0)


async def test_who_takes_nothing_of_an_answer_is_left(served: Served) -> None:
    connection = await served.connect(GET % b"/large")
    await served.until(1)
    await served.until(0)
    connection.close()


async def test_the_one_that_waited_longest_makes_room(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpProtocol, "limit", 3)
    monkeypatch.setattr(HttpProtocol, "_logged_at", float("-inf"))
    monkeypatch.setattr(under_test, "HEAD_SECONDS", 60)
    held = await served.connect(GET % b"/held")
    await held.hears(b"begun")
    with capture_logs() as logs:
        idle = [await served.connect(HEAD) for _ in range(20)]
        good = await served.connect(GET % b"/")
        await good.hears(b"done")
    assert [entry["event"] for entry in logs] == ["connection limit reached"]
    served.app.go_on.set()
    await held.hears(b"done")
    assert [await connection.rest() for connection in idle[:18]] == [b""] * 18
    for connection in (held, good, *idle):
        connection.close()


async def test_an_idle_connection_makes_room(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closes the oldest long before its time, which is longer than that of load balancers."""
    monkeypatch.setattr(HttpProtocol, "limit", 3)
    idle = [await served.connect(GET % b"/") for _ in range(3)]
    for connection in idle:
        await connection.hears(b"\r\n0\r\n\r\n")
    other = await served.connect(GET % b"/")
    await other.hears(b"done")
    assert await idle[0].rest() == b""
    for connection in (other, *idle):
        connection.close()


async def test_where_nobody_waits_the_newest_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpProtocol, "limit", 2)
    held = [await served.connect(GET % b"/held") for _ in range(2)]
    for connection in held:
        await connection.hears(b"begun")
    assert (await served.answer(b"")).startswith(b"HTTP/1.1 503 ")
    served.app.go_on.set()
    for connection in held:
        await connection.hears(b"done")
        connection.close()
