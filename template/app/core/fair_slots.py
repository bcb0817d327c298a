"""Decides who is next where only so many can be under way at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager

from app.core.errors import Busy

MOST_WAITING = 100


class FairSlots:
    """Shares places fairly: nobody who holds a place takes the last free one, and of those who wait, the one who holds
    the fewest is next, or of equals the one who came first.
    """

    def __init__(self, places: int) -> None:
        self._alone = places == 1
        self._free = places
        self._held = Counter[Hashable]()
        self._waiting: dict[asyncio.Future[None], Hashable] = {}

    @asynccontextmanager
    async def acquire(self, who: Hashable) -> AsyncGenerator[None]:
        """Holds one place for the block, after a wait for it. Raises Busy when too many wait."""
        if len(self._waiting) >= MOST_WAITING:
            raise Busy("Too many requests are waiting for this; try again later.")
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = who
        self._call()
        try:
            await turn
            yield
        finally:
            if turn in self._waiting:
                del self._waiting[turn]
            else:
                self._give_back(who)

    def _call(self) -> None:
        while self._free and (waiting := [pair for pair in self._waiting.items() if not pair[0].cancelled()]):
            turn, who = min(waiting, key=lambda pair: self._held[pair[1]])
            if self._held[who] and self._free == 1 and not self._alone:
                return
            del self._waiting[turn]
            self._free -= 1
            self._held[who] += 1
            turn.set_result(None)

    def _give_back(self, who: Hashable) -> None:
        self._free += 1
        self._held[who] -= 1
        if not self._held[who]:
            del self._held[who]
        self._call()
