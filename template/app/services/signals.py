"""What this process tells itself at once. What other processes do is looked up again and again."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from app.core.grace import Grace


class Signals:
    def __init__(self) -> None:
        self.work = asyncio.Event()
        """Set when an execution may be waiting for a worker."""
        self.stopping = False
        """Set for good once the process is told to stop: nothing new is begun, and nobody is kept waiting."""
        self.at_stop: list[Callable[[], None]] = []
        self._waiting: dict[UUID, set[asyncio.Future[bool]]] = defaultdict(set)

    def tell(self, *execution_ids: UUID | None) -> None:
        """Something happened in these, which no run tells."""
        self.work.set()
        for id in execution_ids:
            if id:
                self.wake(id)

    def wake(self, execution_id: UUID) -> None:
        """Those who wait for something to happen there."""
        for happened in self._waiting.get(execution_id, ()):
            _resolve(happened, True)

    def stop(self) -> None:
        self.stopping = True
        self.tell(*self._waiting)
        for call in self.at_stop:
            call()

    async def wait(self, execution_id: UUID, seconds: float) -> bool:
        """Returns whether something happened there, or the process stops, before so many seconds have passed."""
        if self.stopping:
            return True
        happened = asyncio.get_running_loop().create_future()
        self._waiting[execution_id].add(happened)
        timer = happened.get_loop().call_later(seconds, _resolve, happened, False)
        try:
            return await happened
        finally:
            timer.cancel()
            self._waiting[execution_id].discard(happened)
            if not self._waiting[execution_id]:
                del self._waiting[execution_id]


def _resolve(future: "asyncio.Future[bool]", value: bool) -> None:
    if not future.done():
        future.set_result(value)


@asynccontextmanager
async def open_signals(grace: Grace) -> AsyncGenerator[Signals]:
    signals = Signals()
    stopping = asyncio.create_task(_stop(signals, grace))
    try:
        yield signals
    finally:
        grace.begin()
        await stopping


async def _stop(signals: Signals, grace: Grace) -> None:
    await grace.begun.wait()
    signals.stop()
