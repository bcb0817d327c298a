"""WebSockets of uvicorn, without what a peer that is up to no good could hold for good: a connection, or memory."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

CLOSE_SECONDS = 5.0


class WebSocketProtocol(WebSocketsSansIOProtocol):
    async def run_asgi(self) -> None:
        """A transport that is closed waits until its buffer is read, which may be never."""
        await super().run_asgi()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def handle_ping(self) -> None:
        """Pongs for a peer that does not read would pile up. Only the last one that it reads counts."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_cont(self, event: Frame) -> None:
        """Continuations without data count nothing towards the size of a message, but would be kept."""
        if event.data or event.fin:
            super().handle_cont(event)
