"""Runs in separate processes what is heavy, reads what strangers wrote, or could crash its process."""

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
from app.core.fair_slots import FairSlots

T = TypeVar("T")

SECONDS = 60.0
"""Limits one job to so many seconds, unless a pool has another limit; then its process is killed."""
MEMORY_BYTES = 1 << 30
"""Limits the data of each process; beyond it the job raises MemoryError."""

log = structlog.stdlib.get_logger("app.workers")


class TookTooLong(Busy):
    pass


class ProcessPool:
    """Runs jobs in at most `number` processes, which start when first needed and are shared fairly among users."""

    def __init__(self, number: int, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._turns = FairSlots(number)
        self._idle: list[_PoolProcess] = []

    async def do(self, work: Callable[..., T], *arguments: Any) -> T:
        """Runs a function in another process, which is killed if the caller is cancelled, and returns its result.

        Raises what the function raises, TookTooLong, and Busy if the process dies or too many wait.
        """
        async with self._turns.acquire(_who()):
            worker = self._idle.pop() if self._idle else _PoolProcess()
            try:
                await worker.begin()
                async with asyncio.timeout(SECONDS if self._seconds is None else self._seconds):
                    return await worker.do(work, *arguments)
            except TimeoutError:
                log.warning("pool job timed out", work=work.__name__)
                raise TookTooLong("The work took too long and was stopped; try again, or send less.") from None
            except BrokenProcessPool:
                log.error("pool process died", work=work.__name__)
                raise Busy("A process that worked on this request died; try again.") from None
            finally:
                await self._keep(worker)

    async def close(self) -> None:
        for worker in self._idle:
            await worker.end()

    async def _keep(self, worker: "_PoolProcess") -> None:
        if worker.is_lost:
            with CancelScope(shield=True):
                await worker.end()
        else:
            self._idle.append(worker)


class _PoolProcess:
    """Represents one process of the pool."""

    def __init__(self) -> None:
        self.is_lost = False
        """Tells whether it is dead, or still busy with a job that nobody waits for any more."""
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
        # The pool is shut down while it is referred to: else the garbage collector may do so in the pool's own thread,
        # which holds the lock that it would then wait for, for ever.
        await asyncio.to_thread(self._pool.shutdown)


@asynccontextmanager
async def open_process_pool(number: int, seconds: float | None = None) -> AsyncGenerator[ProcessPool]:
    workers = ProcessPool(number, seconds)
    try:
        yield workers
    finally:
        await workers.close()


def _who() -> object:
    """Returns the user id that log lines carry, by which turns are shared; without one, a new object for each job."""
    return get_contextvars().get("user_id") or object()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("pool process had already ended")


def _begin() -> None:
    """Makes a new process ignore Ctrl-C, which is for the server, limits its memory, and ends it with the server."""
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
