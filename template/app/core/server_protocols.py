"""Hardens uvicorn's protocols against hostile peers, which could otherwise hold connections or memory forever."""

import os
from asyncio import AbstractEventLoop, Transport
from collections.abc import Collection
from typing import ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

CLOSE_SECONDS = 5.0
CHECK_SECONDS = 2.0
HEAD_BYTES, HEAD_FIELDS = 32_768, 128
"""Limits the head of a request; the websockets library accepts as many fields for a handshake."""
HEAD_SECONDS, BODY_SECONDS, BODY_BYTES_PER_SECOND = 10.0, 20.0, 1_000
"""Limits how long the head may take, and the body, which gets one more second for each 1,000 bytes of it."""
STALL_SECONDS = 30.0
LOG_SECONDS = 60.0

log = structlog.stdlib.get_logger("app.server")


def connection_limit() -> int:
    """Returns how many connections may be open, so that databases, providers and the rest find file descriptors."""
    most = 10_000
    if os.name != "posix":
        return most
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return most
    return min(most, files - max(files // 4, min(files // 2, 128)))


class _HeadTooLarge(Exception):
    """Passes through the parser, which ends a request on any exception."""


class HttpProtocol(HttpToolsProtocol):
    """Closes a connection whose client takes too long to send its request or to read the response.

    At the limit of connections, the one that has waited longest for a request is closed to make room.
    """

    limit: ClassVar[int] = connection_limit()
    _waiting: ClassVar[dict["HttpProtocol", None]] = {}
    """Keeps the connections without a request, the one that has waited longest first."""
    _logged_at: ClassVar[float] = float("-inf")
    _swept: ClassVar[AbstractEventLoop | None] = None
    """Names the loop whose connections are checked together, since a timer for each would wake the process often."""
    _deadline: float | None = None

    def connection_made(self, transport: Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if len(self.connections) >= self.limit and not self._make_room():
            self.transport = transport
            self._refuse(503)
            return
        super().connection_made(transport)
        self._unsent, self._taken_at = 0, self.loop.time()
        self._expect_head()
        if HttpProtocol._swept is not self.loop:
            HttpProtocol._swept = self.loop
            self._sweep(self.loop, self.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._leave()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and self._is_answered():
            self._expect_head()
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._grow_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts the fields of the head, and those that follow a body."""
        self._grow_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._waiting.pop(self, None)
        self._deadline, self._unparsed = self.loop.time() + BODY_SECONDS, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        if self._deadline is not None and not self._is_answered():
            self._deadline += len(body) / BODY_BYTES_PER_SECOND
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed = 0
        if self._is_answered():  # before it was complete: the rest of it cancelled uvicorn's keep-alive timer
            self._expect_head()
        else:
            self._deadline = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._deadline is None:
            self._waiting[self] = None
        super().on_response_complete()

    def resume_writing(self) -> None:
        self._taken_at = self.loop.time()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        if self._is_head_too_large():
            self._refuse(431)
        else:
            super().send_400_response(msg)

    def _make_room(self) -> bool:
        now = self.loop.time()
        if now - HttpProtocol._logged_at > LOG_SECONDS:
            HttpProtocol._logged_at = now
            log.warning("connection limit reached", limit=self.limit, waiting=len(self._waiting))
        for oldest in self._waiting:
            oldest._leave()
            oldest.transport.abort()
            return True
        return False

    def _leave(self) -> None:
        self._waiting.pop(self, None)

    def _expect_head(self) -> None:
        self._waiting.pop(self, None)
        self._waiting[self] = None
        self._deadline = self.loop.time() + HEAD_SECONDS
        self._unparsed = self._head_bytes = 0

    def _grow_head(self, size: int) -> None:
        self._head_bytes += size
        if self._is_head_too_large():
            raise _HeadTooLarge

    def _is_head_too_large(self) -> bool:
        return self._head_bytes > HEAD_BYTES or len(self.headers or ()) >= HEAD_FIELDS

    def _is_answered(self) -> bool:
        return not self.cycle or self.cycle.response_complete

    @staticmethod
    def _sweep(loop: AbstractEventLoop, connections: Collection[object]) -> None:
        if not connections:
            HttpProtocol._swept = None
            return
        loop.call_later(CHECK_SECONDS, HttpProtocol._sweep, loop, connections)
        now = loop.time()
        for connection in tuple(connections):
            if isinstance(connection, HttpProtocol):
                connection._check(now)

    def _check(self, now: float) -> None:
        if self._is_stalled(now):
            log.info("response timed out", client=self.client)
            self.transport.abort()
        elif self._is_overdue(now) and not self.transport.is_closing():
            log.info("request timed out", client=self.client)
            self._refuse(408)

    def _is_overdue(self, now: float) -> bool:
        if self._deadline is None:
            return False
        if self.flow.read_paused:  # it is the application that does not read the body
            self._deadline = now + BODY_SECONDS
        return now > self._deadline

    def _is_stalled(self, now: float) -> bool:
        """Tells whether the client stopped reading. Unless writing is paused, the buffer refills and says nothing."""
        if not (self.flow.write_paused or self.transport.is_closing()):
            self._taken_at, self._unsent = now, 0
            return False
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._taken_at = now
        self._unsent = unsent
        return now - self._taken_at > STALL_SECONDS

    def _refuse(self, status: int) -> None:
        """Answers with the status and closes; only closes where a response has begun or nothing was requested."""
        is_asked = status != 408 or self not in self._waiting or self._unparsed
        if is_asked and (self._is_answered() or not self.cycle.response_started):
            self.transport.write(STATUS_LINE[status] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    async def run_asgi(self) -> None:
        """Aborts the transport in the end: closing it waits until the peer has read the buffer, perhaps forever."""
        await super().run_asgi()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def handle_ping(self) -> None:
        """Drops the pong for a peer that does not read: pongs would pile up, and only the last one it reads counts."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_cont(self, event: Frame) -> None:
        """Ignores continuations without data, which add nothing to the size of a message but would be kept."""
        if event.data or event.fin:
            super().handle_cont(event)
