"""What this process tells itself at once. What other processes do is looked up again and again."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from app.core.grace import Grace


class Signals:
    def __init__(self) -> None:
        self.work = asyncio.Event()
        """Set when an execution may be waiting for a worker."""
        self.stopping = False
        """Set for good once the process is told to stop: nothing new is begun, and nobody is kept waiting."""
        self._waiting: dict[UUID, set[asyncio.Event]] = defaultdict(set)

    def tell(self, *execution_ids: UUID | None) -> None:
        """Something happened in these, which no run tells."""
        self.work.set()
        for id in execution_ids:
            for event in self._waiting.get(id, ()) if id else ():
                event.set()

    def stop(self) -> None:
        self.stopping = True
        self.tell(*self._waiting)

    async def wait(self, execution_id: UUID, seconds: float) -> None:
        """Until something happens there, but no longer."""
        if self.stopping:
            return
        event = asyncio.Event()
        self._waiting[execution_id].add(event)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()
        finally:
            self._waiting[execution_id].discard(event)
            if not self._waiting[execution_id]:
                del self._waiting[execution_id]


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
