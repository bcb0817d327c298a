"""Limits how often things may be tried, counted in Redis for all processes, or else in this one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from time import monotonic, time
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from app.core.config import Settings
from app.core.errors import AppError
from app.core.security import fingerprint

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.aio.strategies import FixedWindowRateLimiter
    from redis.asyncio import Redis

REDIS_AGAIN_SECONDS = 5.0
MINUTE, HOUR = 60, 3600
ADDRESSES_THAT_LOCK = 5
"""Says how many addresses must use up their share of wrong passwords until the account is locked for all."""

log = structlog.stdlib.get_logger("app.security")


class TooManyRequests(AppError):
    status, code = 429, "too_many_requests"

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many attempts; try again in {seconds} s.")
        self._seconds = seconds

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(self._seconds)}


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows `amount` tries in `seconds`, counted from the first one; an amount of 0 is no limit."""

    name: str
    amount: int
    seconds: int


class RateLimiter:
    """Counts tries. While Redis is down, each process counts its own: nobody is locked out, and limits still hold."""

    def __init__(self, redis: "Redis | None", prefix: str) -> None:
        from limits.aio.storage import MemoryStorage, RedisStorage
        from limits.aio.strategies import FixedWindowRateLimiter

        self._own = FixedWindowRateLimiter(MemoryStorage())
        self._shared = None
        self._shared_after = 0.0
        if redis is not None:
            storage = RedisStorage(
                "redis://",
                wrap_exceptions=True,
                implementation="redispy",
                key_prefix=f"{prefix}:limits",
                connection_pool=redis.connection_pool,  # pyright: ignore[reportArgumentType]
            )
            self._shared = FixedWindowRateLimiter(storage)

    async def hit(self, rule: Rule, who: str) -> None:
        """Counts one try. Raises TooManyRequests when there were too many."""
        if not rule.amount:
            return
        item = _item(rule)
        limiter = self._limiter()
        try:
            await _hit(limiter, item, rule.name, who)
        except _storage_error() as error:
            self._do_without_redis(error)
            await _hit(self._own, item, rule.name, who)

    async def forget(self, rule: Rule, who: str) -> None:
        if not rule.amount:
            return
        item = _item(rule)
        await self._own.clear(item, rule.name, who)
        limiter = self._limiter()
        if limiter is not self._own:
            try:
                await limiter.clear(item, rule.name, who)
            except _storage_error() as error:
                self._do_without_redis(error)

    def _limiter(self) -> "FixedWindowRateLimiter":
        return self._shared if self._shared and monotonic() >= self._shared_after else self._own

    def _do_without_redis(self, error: Exception) -> None:
        """Counts in this process for a while, so that not every request waits for a Redis that does not answer."""
        self._shared_after = monotonic() + REDIS_AGAIN_SECONDS
        cause = type(error.__cause__ or error).__name__
        log.error("redis is down, limits are counted by each process", error=cause, again_in=REDIS_AGAIN_SECONDS)


class RateLimits:
    """Limits what a caller may try, by address and by account. Methods that count raise TooManyRequests."""

    def __init__(self, rate_limiter: RateLimiter, settings: Settings, address: str) -> None:
        self._rate_limiter = rate_limiter
        self._address = network(address)
        self._settings = settings

    async def log_in(self) -> None:
        await self._hit(self._by_address("logins"), self._address)

    async def count_password_attempt(self, email: str, device: UUID | None = None) -> None:
        """Counts an attempt before its password is checked, so that many at once cannot evade the limit.

        A known device is counted by itself, so that no stranger can lock its owner out.
        """
        for rule, who in self._guesses(email, device):
            await self._hit(rule, who)

    async def clear_password_attempts(self, email: str, device: UUID | None = None) -> None:
        """Clears the attempts that were counted, since the password was right."""
        for rule, who in self._guesses(email, device):
            await self._rate_limiter.forget(rule, who)

    async def register(self) -> None:
        await self._hit(Rule("registrations", self._settings.registrations_per_hour, HOUR), self._address)

    async def use_token(self) -> None:
        await self._hit(self._by_address("tokens"), self._address)

    async def refresh(self) -> None:
        await self._hit(self._by_address("refreshes"), self._address)

    async def mail(self) -> None:
        """Counts an e-mail that the caller asks for; the outbox counts those to each recipient."""
        await self._hit(Rule("mails-from", self._settings.mails_per_hour, HOUR), self._address)

    async def request(self, user_id: UUID) -> None:
        await self._rate_limiter.hit(Rule("requests", self._settings.requests_per_minute, MINUTE), str(user_id))

    def _by_address(self, name: str) -> Rule:
        return Rule(name, self._settings.login_attempts_per_minute, MINUTE)

    def _guesses(self, email: str, device: UUID | None) -> list[tuple[Rule, str]]:
        amount = self._settings.login_failures_per_hour
        if device:
            return [(Rule("guesses-of", amount, HOUR), str(device))]
        account = _account(email)
        here = Rule("guesses-from", ceil(amount / ADDRESSES_THAT_LOCK), HOUR)
        return [(here, f"{account}:{self._address}"), (Rule("guesses", amount, HOUR), account)]

    async def _hit(self, rule: Rule, who: str) -> None:
        try:
            await self._rate_limiter.hit(rule, who)
        except TooManyRequests:
            log.warning("rate limit exceeded", rule=rule.name)
            raise


async def _hit(limiter: "FixedWindowRateLimiter", item: "RateLimitItem", name: str, who: str) -> None:
    if not await limiter.hit(item, name, who):
        stats = await limiter.get_window_stats(item, name, who)
        raise TooManyRequests(max(1, ceil(stats.reset_time - time())))


@cache
def _item(rule: Rule) -> "RateLimitItem":
    from limits import RateLimitItemPerSecond

    return RateLimitItemPerSecond(rule.amount, rule.seconds)


def _storage_error() -> type[Exception]:
    from limits.errors import StorageError

    return StorageError


def _account(email: str) -> str:
    """Hashes an e-mail address: Redis keeps none, and what is typed may be of any length."""
    return fingerprint(email.strip().lower())


def mailbox_key(email: str) -> str:
    """Returns one key for all addresses of a mailbox: what follows a + in the name only sorts its mail."""
    name, _, domain = email.rpartition("@")
    return _account(f"{name.partition('+')[0] or name}@{domain}")


@lru_cache(maxsize=4_096)
def network(address: str) -> str:
    """Returns an IPv4 address as it is, and of IPv6 the /64 network: one customer gets one, with 2^64 addresses."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or ip_network((found, 64), strict=False).network_address)
    return str(found)
