"""Processes for what is heavy, reads what strangers wrote, or could take a process with it."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from importlib import import_module
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

import structlog
from anyio import CancelScope
from structlog.contextvars import get_contextvars

from app.core.errors import Busy
from app.core.places import Places

T = TypeVar("T")

SECONDS = 60.0
"""As long may one piece of work take, then its process is ended."""
MEMORY_BYTES = 1 << 30
"""Of data, for each process; more is a MemoryError in it."""

log = structlog.stdlib.get_logger("app.workers")


class TookTooLong(Busy):
    pass


class Workers:
    """So many processes at most, which begin when they are first needed, and are shared fairly."""

    def __init__(self, number: int) -> None:
        self._turns = Places(number)
        self._idle: list[_Worker] = []

    async def do(self, work: Callable[..., T], *arguments: Any) -> T:
        """What the function answers, in another process, which is ended when it is not waited for any more.

        Raises what the function raises, TookTooLong, and Busy if the process dies or too many wait.
        """
        async with self._turns.taken(_who()):
            worker = self._idle.pop() if self._idle else _Worker()
            try:
                await worker.begin()
                async with asyncio.timeout(SECONDS):
                    return await worker.do(work, *arguments)
            except TimeoutError:
                log.warning("work took too long", work=work.__name__)
                raise TookTooLong("This took too long to be worked on.") from None
            except BrokenProcessPool:
                log.error("a worker died", work=work.__name__)
                raise Busy("This could not be worked on; try again.") from None
            finally:
                await self._keep(worker)

    async def close(self) -> None:
        for worker in self._idle:
            await worker.end()

    async def _keep(self, worker: "_Worker") -> None:
        if worker.is_lost:
            with CancelScope(shield=True):
                await worker.end()
        else:
            self._idle.append(worker)


class _Worker:
    """One process."""

    def __init__(self) -> None:
        self.is_lost = False
        """Dead, or still at what nobody waits for any more."""
        self._pid: int | None = None
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin)

    async def begin(self) -> None:
        self._pid = self._pid or await self.do(os.getpid)

    async def do(self, work: Callable[..., T], *arguments: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        except (asyncio.CancelledError, BrokenProcessPool):
            self.is_lost = True
            raise

    async def end(self) -> None:
        if self.is_lost and self._pid:
            _kill(self._pid)
        # While somebody refers to the pool: else its thread, which holds its lock, may be the one that clears it away,
        # which waits for that lock for ever.
        await asyncio.to_thread(self._pool.shutdown)


@asynccontextmanager
async def open_workers(number: int) -> AsyncGenerator[Workers]:
    workers = Workers(number)
    try:
        yield workers
    finally:
        await workers.close()


def _who() -> object:
    """The person for whom it is, as log lines name them."""
    return get_contextvars().get("user_id") or object()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("the worker had ended")


def _begin() -> None:
    """Ctrl-C is for the server, which ends its workers; and no worker outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "posix":
        resource = import_module("resource")
        most = resource.getrlimit(resource.RLIMIT_DATA)[1]
        some = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_BYTES, most)
        resource.setrlimit(resource.RLIMIT_DATA, (some, most))
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
