from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from app.core.config import Settings
from app.core.streams.base import TextStreams
from app.core.streams.memory import MemoryTextStreams


@asynccontextmanager
async def open_streams(settings: Settings) -> AsyncGenerator[TextStreams]:
    """Opens the streams, in Redis where REDIS_URL names one. Closing first sends what was written last."""
    if settings.redis_url is None:
        yield MemoryTextStreams()
        return
    from app.core.streams.redis import open_redis_streams

    async with open_redis_streams(settings.redis_url.get_secret_value(), settings.redis_prefix) as events:
        yield events
