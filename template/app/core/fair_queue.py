"""Decides whose turn it is where only a few things can be done at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count

from app.core.errors import Busy

MOST_REMEMBERED = 10_000

Lane = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Client:
    """Holds a caller's address, and what to run while it waits, such as a check whether the client is still there."""

    address: str = ""
    waiting: Callable[[], AbstractAsyncContextManager[None]] = nullcontext


@dataclass(eq=False, slots=True)
class _Waiter:
    address: Lane
    account: Lane
    number: int
    called: asyncio.Event = field(default_factory=asyncio.Event)
    has_turn: bool = False


class FairQueue:
    """Queues fairly: next is the address, and within it the account, whose last turn is longest ago.

    When too many wait, the newest of the account with the most, at the address with the most, is refused: whoever asks
    for much keeps nobody else out.
    """

    def __init__(self, at_once: int, most_waiting: int) -> None:
        self._free = at_once
        self._most_waiting = most_waiting
        self._waiting: list[_Waiter] = []
        self._last_turns: dict[Lane, int] = {}
        self._numbers = count(1)

    @asynccontextmanager
    async def acquire(self, client: Client, account: str) -> AsyncGenerator[None]:
        """Waits for a turn, which lasts as long as the block. Raises Busy."""
        address = (client.address,)
        waiter = _Waiter(address, (*address, account), next(self._numbers))
        try:
            await self._wait(waiter, client)
            yield
        finally:
            self._leave(waiter)

    async def _wait(self, waiter: _Waiter, client: Client) -> None:
        self._waiting.append(waiter)
        self._call()
        if not waiter.has_turn:
            self._shed()
            async with client.waiting():
                await waiter.called.wait()
        if not waiter.has_turn:
            raise Busy("Too many people are logging in at the moment; try again.")

    def _leave(self, waiter: _Waiter) -> None:
        if waiter.has_turn:
            self._free += 1
            self._call()
        elif waiter in self._waiting:
            self._waiting.remove(waiter)

    def _call(self) -> None:
        """Gives turns to those who are next, while there is room."""
        while self._free and self._waiting:
            waiter = min(self._waiting, key=self._precedence)
            self._waiting.remove(waiter)
            self._free -= 1
            waiter.has_turn = True
            self._note_turn(waiter)
            waiter.called.set()

    def _precedence(self, waiter: _Waiter) -> tuple[int, int, int]:
        last = self._last_turns
        return last.get(waiter.address, 0), last.get(waiter.account, 0), waiter.number

    def _note_turn(self, waiter: _Waiter) -> None:
        if len(self._last_turns) > MOST_REMEMBERED:
            self._last_turns.clear()
        self._last_turns[waiter.address] = self._last_turns[waiter.account] = next(self._numbers)

    def _shed(self) -> None:
        if len(self._waiting) <= self._most_waiting:
            return
        lanes = Counter(lane for waiter in self._waiting for lane in (waiter.address, waiter.account))
        last = max(self._waiting, key=lambda waiter: (lanes[waiter.address], lanes[waiter.account], waiter.number))
        self._waiting.remove(last)
        last.called.set()
