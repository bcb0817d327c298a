"""Clients that leave before they are answered, which ASGI tells only whoever asks."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from anyio import create_task_group
from fastapi import Request

from app.core.errors import AppError


class ClientLeft(AppError):
    """Nobody gets this answer; the log does."""

    status, code = 400, "client_left"


@asynccontextmanager
async def while_connected(request: Request) -> AsyncGenerator[None]:
    """Gives up what waits within it when the client leaves; the body must have been read. Raises ClientLeft."""
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
