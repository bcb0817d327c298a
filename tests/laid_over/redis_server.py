"""Provides Redis for tests: prefixes of keys, a connection that can be cut, and a server that can be killed."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0")


def reachable() -> bool:
    """Checks whether the server can be reached; with REQUIRE_SERVICES=1 it raises where it cannot."""
    try:
        with BlockingRedis.from_url(URL, socket_connect_timeout=2) as redis:
            redis.ping()
    except RedisError:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            raise
        return False
    return True


@asynccontextmanager
async def own_prefix() -> AsyncGenerator[str]:
    """Yields a prefix for the test's own keys, and deletes these keys afterwards."""
    prefix = f"test-{uuid4().hex}"
    try:
        yield prefix
    finally:
        async with Redis.from_url(URL) as redis:
            async for key in redis.scan_iter(f"{prefix}*", count=1000):
                await redis.delete(key)


class Line:
    """Forwards connections to the real server, and can be cut and mended."""

    loses_one = False
    """Drops the next answer of the server, and closes its connection."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(URL)
        there, back = await asyncio.open_connection(parts.hostname, parts.port or 6379)
        self._open |= {writer, back}
        await asyncio.gather(_pump(reader, back), _pump(there, writer, self._is_lost))

    def _is_lost(self) -> bool:
        lost, self.loses_one = self.loses_one, False
        return lost


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_lost: Callable[[], bool] = lambda: False
) -> None:
    try:
        while (data := await reader.read(65536)) and not is_lost():
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the connection was cut
    finally:
        writer.close()


class OwnServer:
    """Runs a Redis server for one test, which may kill it and start it again, empty."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    @asynccontextmanager
    async def started(cls) -> "AsyncGenerator[OwnServer]":
        server = cls()
        await server.start()
        try:
            yield server
        finally:
            await server.kill()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    async def start(self) -> None:
        command = ("redis-server", "--port", str(self._port), "--save", "", "--appendonly", "no")
        self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert self._process.stdout
        async for line in self._process.stdout:
            if b"Ready to accept connections" in line:
                return
        raise AssertionError("redis-server did not start")

    async def kill(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()
