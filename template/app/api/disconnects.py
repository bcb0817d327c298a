"""Detects clients that leave before they are answered, which ASGI reports only to a caller of `receive`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from anyio import create_task_group
from fastapi import Request

from app.core.errors import AppError


class ClientLeft(AppError):
    """Ends the request of a client that has left: nobody receives this answer, but the log records it."""

    status, code = 400, "client_left"


@asynccontextmanager
async def while_connected(request: Request) -> AsyncGenerator[None]:
    """Cancels the block when the client leaves; the request's body must have been read before. Raises ClientLeft."""
    has_left = False
    async with create_task_group() as group:

        async def watch() -> None:
            nonlocal has_left
            while (await request.receive())["type"] != "http.disconnect":
                pass
            has_left = True
            group.cancel_scope.cancel()

        group.start_soon(watch)
        yield
        group.cancel_scope.cancel()
    if has_left:
        raise ClientLeft("The client has left.")
