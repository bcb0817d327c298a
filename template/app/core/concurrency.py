"""Limits how many of something a user may hold at once, counted in Redis for all processes, or else in this one."""

from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import structlog

from app.core.errors import AppError
from app.core.periodic import repeat

RENEW_SECONDS = 30.0
LEASE_SECONDS = 90
"""Limits the life of a lease; one that is not renewed for so long no longer counts, since its process is dead."""
AT_ONCE = 500

_TAKE = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not known and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
"""Takes or renews a slot, and returns 0 if none is free. It uses Redis's clock, since those of machines may differ."""

_RENEW = """
local till = tonumber(redis.call('TIME')[1]) + ARGV[1]
for place = 2, #ARGV do redis.call('ZADD', KEYS[1], till, ARGV[place]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""

Client = Any
"""Stands for the client of redis-py, whose own types are incomplete."""
Renew = Callable[[], Awaitable[None]]

log = structlog.stdlib.get_logger("app.slots")


class TooManyAtOnce(AppError):
    status, code = 429, "too_many_at_once"


class ConcurrencyLimit:
    """Counts the slots that users hold; a limit of 0 is none. While Redis is down, each process counts only its own."""

    def __init__(self, redis: Client | None, key: str, limit: int) -> None:
        self._redis = redis
        self._key = key
        self._limit = limit
        self._own = Counter[str]()
        self._held: dict[str, str] = {}
        """Maps each slot that this process holds to its user."""

    @asynccontextmanager
    async def acquire(self, who: str) -> AsyncGenerator[Renew]:
        """Holds a slot for the block, as long as `renew` or the yielded function renews it. Raises TooManyAtOnce."""
        slot = str(uuid4())

        async def renew() -> None:
            await self._take(who, slot)

        self._own[who] += 1
        try:
            if self._limit and (self._own[who] > self._limit or not await self._take(who, slot)):
                raise TooManyAtOnce(f"You already have {self._limit} open, which is the limit; close one first.")
            self._held[slot] = who
            yield renew
        finally:
            self._own[who] -= 1
            if not self._own[who]:
                del self._own[who]
            self._held.pop(slot, None)
            await self._give_back(who, slot)

    async def renew(self) -> None:
        """Renews all slots that this process holds, those of AT_ONCE users in each round trip."""
        slots = defaultdict[str, list[str]](list)
        for slot, who in self._held.items():
            slots[who].append(slot)
        users = list(slots)
        for start in range(0, len(users), AT_ONCE):
            some = users[start : start + AT_ONCE]
            await self._renew({who: slots[who] for who in some})

    async def _renew(self, slots: Mapping[str, Sequence[str]]) -> None:
        if self._redis is None or not self._limit:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for who, held in slots.items():
            pipeline.eval(_RENEW, 1, f"{self._key}:{who}", LEASE_SECONDS, *held)
        await self._ask("execute", on=pipeline)
        for who, held in slots.items():
            for slot in held:
                if slot not in self._held:  # released during the renewal, which took it again
                    await self._give_back(who, slot)

    async def _take(self, who: str, slot: str) -> bool:
        taken = await self._ask("eval", _TAKE, 1, f"{self._key}:{who}", slot, self._limit or 2**31, LEASE_SECONDS)
        return taken != 0

    async def _give_back(self, who: str, slot: str) -> None:
        await self._ask("zrem", f"{self._key}:{who}", slot)

    async def _ask(self, command: str, *arguments: Any, on: Client = None) -> Any:
        """Runs a command. Returns None without Redis or a limit, and while Redis is down."""
        if self._redis is None or not self._limit:
            return None
        from redis.exceptions import RedisError

        try:
            return await getattr(on or self._redis, command)(*arguments)
        except (RedisError, OSError) as error:
            log.warning("redis is down, concurrency is limited by each process", error=type(error).__name__)
            return None


@asynccontextmanager
async def open_concurrency_limit(redis: Client | None, key: str, limit: int) -> AsyncGenerator[ConcurrencyLimit]:
    """Opens a limit, and renews its slots for as long as it is open."""
    slots = ConcurrencyLimit(redis, key, limit)
    async with repeat("slots", slots.renew, RENEW_SECONDS):
        yield slots
