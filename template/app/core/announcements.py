"""Announces changes, once the transaction that makes them is committed, to what listens in this process and in others.

An announcement carries nothing and may be lost, as with a connection: whoever listens also looks now and then.
"""

from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

_ANNOUNCED = "announced"


def announce(session: AsyncSession, channel: str) -> None:
    """Announces something on a channel, once for the whole transaction, when it is committed."""
    session.info.setdefault(_ANNOUNCED, set()).add(channel)


async def notify_processes(session: AsyncSession) -> None:
    """Tells other processes what was announced; PostgreSQL does so when the transaction is committed."""
    channels = session.info.get(_ANNOUNCED)
    if channels and session.get_bind().dialect.name == "postgresql":
        for channel in channels:
            await session.execute(select(func.pg_notify(channel, "")))


class Listeners:
    """Calls what listens in this process."""

    def __init__(self) -> None:
        self._calls = defaultdict[str, set[Callable[[], object]]](set)

    @contextmanager
    def calling(self, channel: str, call: Callable[[], object]) -> Generator[None]:
        """Calls `call` at each announcement on the channel until the block ends."""
        self._calls[channel].add(call)
        try:
            yield
        finally:
            self._calls[channel].discard(call)

    def notify(self, session: AsyncSession) -> None:
        """Calls those who listen to what a session announced, which has been committed."""
        for channel in session.info.pop(_ANNOUNCED, ()):
            for call in self._calls[channel]:
                call()
