"""Connects to Redis, where REDIS_URL names one."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from app.core.config import Settings
from app.core.errors import SetupError

if TYPE_CHECKING:
    from redis.asyncio import Redis

CONNECTIONS = 20
SECONDS = 1.0
"""Limits connecting, answers and waits for a free connection: callers would rather go on without Redis than wait."""


@asynccontextmanager
async def open_redis(settings: Settings) -> AsyncGenerator["Redis | None"]:
    """Opens Redis, or yields None without REDIS_URL. Raises SetupError when it cannot be reached."""
    if settings.redis_url is None:
        yield None
        return
    async with connect(settings.redis_url.get_secret_value(), CONNECTIONS, SECONDS) as redis:
        yield redis


@asynccontextmanager
async def connect(url: str, connections: int, seconds: float, *, retries: int = 1) -> AsyncGenerator["Redis"]:
    """Opens a pool. Raises SetupError when Redis cannot be reached. A command that is retried may run twice."""
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError

    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        max_connections=connections,
        timeout=seconds,
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        retry=Retry(NoBackoff(), retries),  # a connection may have died since its last use
    )
    async with Redis.from_pool(pool) as redis:
        try:
            await ping(redis)
        except (RedisError, OSError) as error:
            raise SetupError(f"Redis cannot be used ({type(error).__name__}): start it or correct REDIS_URL.") from None
        yield redis


async def ping(redis: "Redis") -> None:
    await redis.ping()  # pyright: ignore[reportUnknownMemberType]
