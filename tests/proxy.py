"""Forwards connections to PostgreSQL, and cuts them in whichever phase a test asks for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from servers import free_port

READY = b"Z\x00\x00\x00\x05"
"""Begins the message ReadyForQuery, with which PostgreSQL says that it waits for a statement."""
PHASES = (
    "connect",  # before any message
    "greeting",  # when the client asks for TLS
    "startup",  # when the client names its user, before the database answers
    "handshake",  # right after the database is ready
    "statement",  # before the statement reaches the database
    "answer",  # before the client learns what became of its statement
    "half an answer",
    "commit",  # the database commits, but the client does not learn it
)


@dataclass
class Proxy:
    """Forwards connections. `phase` says where they are cut now; None lets them be."""

    target: str
    port: int = field(default_factory=free_port)
    phase: str | None = None
    cuts: int = 0
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    """Tells that data gets through; while it is not set, the network swallows all, and closes no connection."""
    _open: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    def __post_init__(self) -> None:
        self.flowing.set()

    @property
    def url(self) -> str:
        """Returns the database's address through this proxy."""
        parts = urlsplit(self.target)
        return parts._replace(netloc=f"{parts.username}@127.0.0.1:{self.port}").geturl()

    def cut(self, phase: str) -> None:
        """Cuts connections in this phase from now on. Ends open ones, too, unless it is a phase of statements."""
        self.phase = phase
        if phase in PHASES[:4]:
            for writer in self._open:
                writer.transport.abort()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(self.target)
        there_reader, there = await asyncio.open_connection(parts.hostname, parts.port)
        line = _Line(self)
        self._open |= {writer, there}
        try:
            if self.phase == "connect":
                self.cuts += 1
                return
            pumps = (line.ask(reader, there), line.answer(there_reader, writer))
            await asyncio.wait([asyncio.create_task(pump) for pump in pumps], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open -= {writer, there}
            writer.transport.abort()
            there.transport.abort()


@dataclass
class _Line:
    """Forwards one connection, and knows how far it has come."""

    proxy: Proxy
    said: int = 0
    is_ready: bool = False
    last: bytes = b""

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await _read(reader):
            await self.proxy.flowing.wait()
            self.said += 1
            self.last = data
            if self._is_cut({1: "greeting", 2: "startup"}.get(self.said)) or (
                self.is_ready and self._is_cut("statement")
            ):
                return
            writer.write(data)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await _read(reader):
            await self.proxy.flowing.wait()
            if self.is_ready and (self._is_cut("answer") or (b"COMMIT" in self.last and self._is_cut("commit"))):
                return
            if self.is_ready and self._is_cut("half an answer"):
                writer.write(data[: len(data) // 2])
                await writer.drain()
                return
            writer.write(data)
            if READY in data and not self.is_ready:
                self.is_ready = True
                if self._is_cut("handshake"):
                    await writer.drain()
                    return

    def _is_cut(self, phase: str | None) -> bool:
        cut = phase is not None and self.proxy.phase == phase
        self.proxy.cuts += cut
        return cut


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(2**16)
    except ConnectionError:
        return b""


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """Serves a proxy to the database at this address."""
    proxy = Proxy(url)
    async with await asyncio.start_server(proxy.handle, "127.0.0.1", proxy.port):
        yield proxy
