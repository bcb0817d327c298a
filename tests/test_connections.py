"""Tests that servers still answer others while peers that send nothing useful take and fill their connections."""

import asyncio
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from servers import Project, Server, signed_in

pytestmark = [pytest.mark.deep, pytest.mark.faults, pytest.mark.slow]
FILES, FLOOD, MEGABYTE = 256, 300, 1_000_000
GROWTH_MEGABYTES = 30
SECONDS = 90
"""Limits the wait for a server to close stalled connections, to which it gives 10 and 20 s."""
HEAD = b"GET /api/v1/info HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BODY = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
UPGRADE = HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


@contextmanager
def few_files() -> Iterator[None]:
    """Limits the open files of a process that is started within it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def serving(project: Project) -> AsyncIterator[Server]:
    with few_files():
        starting = project.serve()
        server = await starting.__aenter__()
    try:
        yield server
        assert await server.end(signal.SIGTERM) == 0
        assert "Traceback" not in server.log.result().decode()
    finally:
        await starting.__aexit__(None, None, None)


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(url: str, sent: bytes) -> Connection:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    with suppress(ConnectionError):
        writer.write(sent)
        await writer.drain()
    return reader, writer


async def ended(connections: list[Connection]) -> None:
    """Waits until the server has closed all connections."""
    async with asyncio.timeout(SECONDS):
        for reader, writer in connections:
            with suppress(ConnectionError):
                await reader.read()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def memory(server: Server) -> float:
    """Returns the server's resident memory, in megabytes."""
    [line] = [line for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines() if "VmRSS" in line]
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("sent", [b"", HEAD, UPGRADE], ids=["idle", "head", "upgrade"])
def test_more_connections_than_files(single: Project, sent: bytes) -> None:
    async def run() -> None:
        async with serving(single) as server, signed_in(server.url) as ada:
            reading = asyncio.create_task(read_a_reply(ada, server.url))
            flood = [await connect(server.url, sent) for _ in range(FLOOD)]
            for _ in range(10):  # as another client does, over its own connections
                async with httpx2.AsyncClient() as client:
                    assert (await client.get(f"{server.url}/health/ready")).status_code == 200
            assert "message.completed" in await reading
            await ended(flood)
        assert server.log.result().decode().count("connection limit reached") == 1

    asyncio.run(run())


async def read_a_reply(client: httpx2.AsyncClient, url: str) -> str:
    return (await client.post(f"{url}/api/v1/chat/messages/stream", json={"content": "Hello"})).text


def test_bodies_that_do_not_come_are_waited_for_only_so_long(single: Project) -> None:
    async def run() -> None:
        async with serving(single) as server, signed_in(server.url):
            await ended([await connect(server.url, BODY) for _ in range(FLOOD)])
            async with signed_in(server.url) as again:
                assert "message.completed" in await read_a_reply(again, server.url)

    asyncio.run(run())


@pytest.mark.parametrize("sent", [HEAD + b"a: ", b"GET /"], ids=["field", "address"])
def test_heads_without_end_take_no_memory(single: Project, sent: bytes) -> None:
    async def run() -> None:
        async with serving(single) as server, signed_in(server.url) as ada:
            before = memory(server)
            await ended([await connect(server.url, sent + b"x" * 100 * MEGABYTE) for _ in range(5)])
            assert memory(server) - before < GROWTH_MEGABYTES
            assert (await ada.get(f"{server.url}/api/v1/users/me")).status_code == 200

    asyncio.run(run())


def test_several_workers_wait_no_longer(cluster: Project) -> None:
    async def run() -> None:
        async with cluster.serve("--workers=2") as server:
            await ended([await connect(server.url, sent) for sent in (b"", HEAD, BODY, UPGRADE) for _ in range(5)])

    asyncio.run(run())
