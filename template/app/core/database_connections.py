"""Closes the connections that nobody will use: those given back too late, and those whose caller was cancelled."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

CLOSING_SECONDS = 2.0
"""Limits how long the end waits for connections that are still being opened or closed."""


class ConnectionPool(AsyncAdaptedQueuePool):
    """Closes a connection that is given back after the end, which SQLAlchemy would keep open for nobody."""

    __module__ = AsyncAdaptedQueuePool.__module__  # names its logger, which is to stay one of SQLAlchemy's
    is_disposed = False

    def dispose(self) -> None:
        self.is_disposed = True
        super().dispose()

    def recreate(self) -> "ConnectionPool":
        """Returns what takes the place of this pool, for whoever uses it after the end."""
        pool = cast("ConnectionPool", super().recreate())
        pool.is_disposed = self.is_disposed
        return pool

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if self.is_disposed:
            record.close()
        else:
            super()._do_return_conn(record)


class ConnectionOpener:
    """Opens connections to the end: one left half open, since its caller was cancelled, would leak with a warning."""

    def __init__(self, connect: Callable[..., Awaitable[Any]]) -> None:
        self._connect = connect
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self, *arguments: Any, **options: Any) -> Any:
        """Opens a connection, and closes it if the caller was cancelled."""
        opening = asyncio.ensure_future(self._connect(*arguments, **options))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            closing = asyncio.create_task(_close(opening))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            raise

    async def finish(self) -> None:
        """Waits until the connections that nobody waits for are closed."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSING_SECONDS)


async def _close(opening: "asyncio.Future[Any]") -> None:
    """Closes the connection once it is open. An error of opening it is ignored, since nobody waits for it any more."""
    await asyncio.wait({opening})
    if not opening.cancelled() and opening.exception() is None:
        await opening.result().close()
