"""Processes for what is heavy, or is done by libraries that could take a process with them."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

import structlog

from app.core.errors import Busy

T = TypeVar("T")

log = structlog.stdlib.get_logger("app.workers")


class Workers:
    """So many at most, which begin when they are first needed. What they do must be short: nothing stops it."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._pool: ProcessPoolExecutor | None = None

    async def do(self, work: Callable[..., T], *arguments: Any) -> T:
        """What the function answers, in another process. Raises what it raises, and Busy if the process dies."""
        pool = self._pool = self._pool or self._begun()
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)
        except BrokenProcessPool:
            log.error("a worker died", work=work.__name__)
            if self._pool is pool:
                self._pool = None
            # While somebody refers to it: else its thread, which holds its lock, may be the one that clears it away,
            # which waits for that lock for ever.
            await asyncio.to_thread(pool.shutdown)
            raise Busy("This could not be worked on; try again.") from None

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def _begun(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._number, get_context("spawn"), initializer=_begin)


@asynccontextmanager
async def open_workers(number: int) -> AsyncGenerator[Workers]:
    """Closing waits for what is under way."""
    workers = Workers(number)
    try:
        yield workers
    finally:
        await asyncio.to_thread(workers.close)


def _begin() -> None:
    """Ctrl-C is for the server, which ends its workers; and no worker outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
