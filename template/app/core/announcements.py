"""Announces changes, once the transaction that makes them is committed, to what listens in this process and in others.

An announcement says only who makes it and may be lost, as with a connection: whoever listens also looks now and then.
"""

from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

_ANNOUNCED = "announced"


def announce(session: AsyncSession, channel: str) -> None:
    """Announces something on a channel, once for the whole transaction, when it is committed."""
    session.info.setdefault(_ANNOUNCED, set()).add(channel)


async def notify_processes(session: AsyncSession, sender: str) -> None:
    """Tells other processes what was announced, and by whom; PostgreSQL does so when the transaction is committed."""
    channels = session.info.get(_ANNOUNCED)
    if channels and session.get_bind().dialect.name == "postgresql":
        for channel in channels:
            await session.execute(select(func.pg_notify(channel, sender)))


class Listeners:
    """Calls what listens in this process."""

    def __init__(self) -> None:
        self.id = uuid4().hex
        """Tells announcements of this process from those of others."""
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
