from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from app.core.config import Settings
from app.core.streams.base import Events
from app.core.streams.memory import MemoryEvents


@asynccontextmanager
async def open_events(settings: Settings) -> AsyncGenerator[Events]:
    """Through Redis where REDIS_URL names one. When it closes, what was said last has been sent."""
    if settings.redis_url is None:
        yield MemoryEvents()
        return
    from app.core.streams.redis import open_redis_events

    async with open_redis_events(settings.redis_url.get_secret_value(), settings.redis_prefix) as events:
        yield events
