"""Lets coroutines wait for news of one thing."""

import asyncio

TICKS = 60
"""Rounds the ends of waits to so many moments of their length, so that many that time out wake the process once."""


class Waiters:
    """Keeps the coroutines that wait, without asyncio.timeout, which would cost as much as all the rest."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures = set[asyncio.Future[bool]]()

    def __bool__(self) -> bool:
        return bool(self._futures)

    def wake(self) -> None:
        for future in self._futures:
            _resolve(future, True)
        self._futures.clear()

    async def wait(self, seconds: float) -> bool:
        """Returns whether it was woken before `seconds`, or a little less, had passed."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._futures.add(future)
        tick = seconds / TICKS
        timer = loop.call_at((loop.time() + seconds) // tick * tick, _resolve, future, False)
        try:
            return await future
        finally:
            timer.cancel()
            self._futures.discard(future)


def _resolve(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)
