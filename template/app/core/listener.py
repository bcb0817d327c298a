"""Hears what other processes announce, by PostgreSQL's LISTEN on a connection of its own."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from sqlalchemy.exc import DisconnectionError

from app.core.config import Settings
from app.core.database import Database, open_reserved
from app.core.periodic import keep_running

CONNECT_SECONDS = 10.0


@asynccontextmanager
async def open_listener(
    database: Database, settings: Settings, channel: str, call: Callable[[], object]
) -> AsyncGenerator[None]:
    """Calls `call` at each announcement on the channel, also in other processes, until the block ends.

    On SQLite, and behind a pooler, which gives nobody a connection to wait on, only those of this process are heard.
    """
    with database.listeners.calling(channel, call):
        if settings.database_pooler or database.url.get_backend_name() == "sqlite":
            yield
            return
        async with open_reserved(database, settings, CONNECT_SECONDS) as reserved:
            listen = partial(_listen, reserved, channel, database.listeners.id, call)
            listening = asyncio.create_task(keep_running("listener", listen))
            try:
                yield
            finally:
                listening.cancel()
                await asyncio.wait({listening})


async def _listen(database: Database, channel: str, own_id: str, call: Callable[[], object]) -> None:
    """Listens to others until the connection is lost. Raises SQLAlchemyError then, so that it is called again."""
    lost = asyncio.Event()

    def notice_loss(_connection: object) -> None:
        lost.set()

    def hear(_connection: object, _pid: int, _channel: str, sender: object) -> None:
        if sender != own_id:  # those of this process were heard already
            call()

    async with database.rows() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        driver.add_termination_listener(notice_loss)
        await driver.add_listener(channel, hear)
        call()  # for what was announced before
        await lost.wait()
        raise DisconnectionError("the connection that listens was lost")
