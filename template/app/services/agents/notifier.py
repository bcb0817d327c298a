"""Announces changes of executions within this process at once; changes by other processes are polled for."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from app.core.shutdown import Shutdown
from app.core.waiters import Waiters


class ExecutionNotifier:
    def __init__(self) -> None:
        self.stopping = False
        """Stays true once the process is told to stop: nothing new is begun, and nobody is kept waiting."""
        self.at_stop: list[Callable[[], None]] = []
        self._waiting = defaultdict[UUID, Waiters](Waiters)

    def notify(self, *execution_ids: UUID | None) -> None:
        """Wakes those who wait for changes of these executions, after one that no run streams."""
        for id in execution_ids:
            if id and (waiters := self._waiting.get(id)):
                waiters.wake()

    def stop(self) -> None:
        self.stopping = True
        self.notify(*self._waiting)
        for call in self.at_stop:
            call()

    async def wait(self, execution_id: UUID, seconds: float) -> bool:
        """Returns whether the execution changed, or the process stops, before so many seconds have passed."""
        if self.stopping:
            return True
        waiters = self._waiting[execution_id]
        try:
            return await waiters.wait(seconds)
        finally:
            if not waiters:
                self._waiting.pop(execution_id, None)


@asynccontextmanager
async def open_notifier(shutdown: Shutdown) -> AsyncGenerator[ExecutionNotifier]:
    notifier = ExecutionNotifier()
    stopping = asyncio.create_task(_stop(notifier, shutdown))
    try:
        yield notifier
    finally:
        shutdown.request()
        await stopping


async def _stop(notifier: ExecutionNotifier, shutdown: Shutdown) -> None:
    await shutdown.requested.wait()
    notifier.stop()
