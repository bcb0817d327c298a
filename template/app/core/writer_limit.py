"""Limits how many transactions of one user may write at the same time in this process."""

import asyncio
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _Holders:
    limit: asyncio.Semaphore
    number: int = 0
    """Counts those that hold a place and those that wait for one."""


class WriterLimit:
    """Admits `limit` holders of each key at a time; the others wait in the order in which they came."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._holders: dict[Hashable, _Holders] = {}

    @asynccontextmanager
    async def hold(self, key: Hashable | None) -> AsyncGenerator[None]:
        """Holds one place of this key while the block runs. A key of None has no limit."""
        if key is None:
            yield
            return
        holders = self._holders.setdefault(key, _Holders(asyncio.Semaphore(self._limit)))
        holders.number += 1
        try:
            async with holders.limit:
                yield
        finally:
            holders.number -= 1
            if not holders.number:
                del self._holders[key]
