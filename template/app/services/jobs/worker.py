"""Runs background jobs, those of dead processes, too, and stores how each attempt ended."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

import structlog
from anyio import CancelScope, move_on_after
from sqlalchemy.exc import SQLAlchemyError
from structlog.contextvars import bound_contextvars

from app.core.config import Settings
from app.core.database import Database
from app.core.errors import AppError
from app.core.jobs import PAUSES, Job, JobContext, JobFailed, JobInterrupted
from app.core.listener import open_listener
from app.core.periodic import Loop, Supervisor
from app.core.retries import retry
from app.core.shutdown import Shutdown
from app.core.telemetry.spans import note_failure, traced
from app.repositories.job import CHANNEL, ClaimedJob, JobRepository, QueuedJob, QueueSlice
from app.services.jobs.free_slots import find_free_slots
from app.services.processes.heartbeat import Heartbeat

LOOK_SECONDS = 1.0
"""Sets the pause between two looks for jobs whose time has come, and for those that no process runs any more."""
SCHEDULE_SECONDS = 60.0
"""Sets the pause between two checks that each job that repeats has its row."""
FIRST_SECONDS = 60.0
"""Delays the first run of jobs that repeat, so as not to slow the start."""

log = structlog.stdlib.get_logger("app.jobs")

Store = Callable[[JobRepository], Awaitable[bool]]
"""Stores how an attempt ended. Returns False when another process has taken the job over."""


@dataclass(slots=True)
class _RunningJob:
    claimed: ClaimedJob
    task: asyncio.Task[None]
    scope: CancelScope


class JobWorker:
    """Runs jobs in this process.

    Each queue has slots of its own, of which one in four is kept free of the person who holds the others.
    """

    def __init__(
        self, jobs: Mapping[str, Job], settings: Settings, state: Any, *, only_user: UUID | None = None
    ) -> None:
        """Takes what the application has opened as `state`, which every job gets, too.

        With `only_user` it runs nothing but the jobs of this person, as a command does.
        """
        self.slots = dict.fromkeys((job.queue for job in jobs.values()), settings.job_concurrency)
        """Maps each queue to its slots, that is, to how many of its jobs run at a time. Features set their own."""
        self.database: Database = state.database
        self._jobs = jobs
        self._only_user = only_user
        self._heartbeat: Heartbeat = state.heartbeat
        self._shutdown: Shutdown = state.shutdown
        self._state = state
        self._running: dict[UUID, _RunningJob] = {}
        self._wake = asyncio.Event()
        self._left: set[str] = set()
        """Holds the queues in which jobs may wait that had no slot at the last look."""
        self._next_look = 0.0
        self._next_schedule = math.inf
        self._starting = asyncio.Lock()

    @property
    def is_busy(self) -> bool:
        return bool(self._running)

    def wake(self) -> None:
        """Makes it look for jobs at once."""
        self._wake.set()

    async def work(self, loop: Loop) -> None:
        """Runs jobs until the process stops and all that had begun have ended."""
        while self.is_busy or not self._shutdown.requested.is_set():
            with loop.attempt():
                await self._turn()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()

    async def drain(self) -> None:
        """Runs jobs until none is left that could run now, for commands and tests."""
        was_busy = True
        while await self._start_all(look=True) or was_busy:
            if was_busy := self.is_busy:
                await asyncio.wait([running.task for running in self._running.values()])

    def cancel(self) -> None:
        """Cancels the jobs under way, which go back to the queue."""
        for running in self._running.values():
            running.scope.cancel()

    async def begin(self) -> None:
        """Lets others know that this process is a worker, and stores what has changed in the definitions of jobs."""
        if self._only_user is not None:
            return
        self._heartbeat.is_worker = True
        await self._heartbeat.beat()
        async with self.database.write() as session:
            await JobRepository(session).move_to_queues(self._jobs.values())
        await self._schedule_recurring()

    async def _schedule_recurring(self) -> None:
        recurring = [job for job in self._jobs.values() if job.every]
        async with self.database.write() as session:
            await JobRepository(session).schedule_recurring(recurring, FIRST_SECONDS)
        self._next_schedule = monotonic() + SCHEDULE_SECONDS

    def stop(self) -> float:
        """Begins no more jobs; returns the seconds that those under way have left."""
        self._shutdown.request()
        self.wake()
        return self._shutdown.remaining()

    async def _turn(self) -> None:
        if not self._shutdown.requested.is_set():
            await self._start_all(look=monotonic() >= self._next_look)

    async def _start_all(self, *, look: bool) -> bool:
        """Starts what can run; with `look`, also what is due or lost. Returns whether any job ran."""
        began = False
        async with self._starting:  # what is being claimed must not look as if it were lost
            if look:
                if monotonic() >= self._next_schedule:
                    await self._schedule_recurring()  # in case somebody deleted the rows
                await self._return_to_queue()
                self._next_look = monotonic() + LOOK_SECONDS
            queues: Collection[str] = self.slots
            while queues and not self._shutdown.requested.is_set():
                queues = await self._start_some(queues)
                began = began or self.is_busy
        return began

    async def _return_to_queue(self) -> None:
        process_id, running = self._heartbeat.id, list(self._running)
        also_of_dead = self._heartbeat.can_detect_dead
        async with self.database.read() as session:
            ids = await JobRepository(session).list_returnable(process_id, running, also_of_dead=also_of_dead)
        if ids:
            async with self.database.write() as session:
                lost = await JobRepository(session).return_to_queue(ids, process_id, running, also_of_dead=also_of_dead)
            for id, name in lost:
                log.warning("job taken over", job=name, job_id=str(id))

    async def _start_some(self, queues: Collection[str]) -> Collection[str]:
        """Claims jobs for the free slots of queues and starts them. Returns the queues in which others may wait."""
        self._left.update(queues)  # until this look is over, for jobs that end during it
        running = [job.claimed for job in self._running.values()]
        slots = find_free_slots({queue: self.slots[queue] for queue in queues}, self._jobs, running)
        slices = [free.to_slice(self._jobs.values(), self._only_user) for free in slots if free.number > 0]
        queued = await self._list_queued(slices)
        ids = [id for free in slots for id in free.choose(queued)]
        claimed = await self._claim(ids)
        for job in claimed:
            self._start(job)
        self._left.difference_update(free.queue for free in slots if not free.may_leave(queued))
        # Without any, another transaction has locked them: the next look tries again.
        return {self._jobs[job.name].queue for job in claimed} & self._left

    async def _list_queued(self, slices: Sequence[QueueSlice]) -> Sequence[QueuedJob]:
        if not slices:
            return []
        async with self.database.read() as session:
            return await JobRepository(session).list_queued(slices)

    async def _claim(self, ids: Collection[UUID]) -> Sequence[ClaimedJob]:
        if not ids:
            return []
        async with self.database.write() as session:
            return await JobRepository(session).claim(ids, self._heartbeat.id)

    def _start(self, claimed: ClaimedJob) -> None:
        scope = CancelScope()
        task = asyncio.create_task(self._run(claimed, scope))
        self._running[claimed.id] = _RunningJob(claimed, task, scope)
        task.add_done_callback(partial(self._ended, claimed))

    def _ended(self, claimed: ClaimedJob, task: asyncio.Task[None]) -> None:
        del self._running[claimed.id]
        if self._jobs[claimed.name].queue in self._left or self._shutdown.requested.is_set():
            self.wake()
        if not task.cancelled() and (error := task.exception()):
            log.error("job end not stored", job_id=str(claimed.id), exc_info=error)

    async def _run(self, claimed: ClaimedJob, scope: CancelScope) -> None:
        job, who = self._jobs[claimed.name], {"user_id": str(claimed.user_id)} if claimed.user_id else {}
        # What repeats is not traced, as nothing is that happens all the time.
        trace = nullcontext() if job.every else traced("job", job=claimed.name)
        with bound_contextvars(job=claimed.name, job_id=str(claimed.id), **who), trace:
            store = self._release(claimed)  # unless it gets to its end
            with scope:
                store = await self._attempt(job, claimed, scope)
            await self._store(store)

    def _release(self, claimed: ClaimedJob) -> Store:
        process_id = self._heartbeat.id
        return lambda stored: stored.release(claimed, process_id)

    async def _attempt(self, job: Job, claimed: ClaimedJob, scope: CancelScope) -> Store:
        """Runs one attempt, and returns what is to be stored of it."""
        process_id, attempt = self._heartbeat.id, claimed.attempt
        if job.attempts is not None and attempt > job.attempts and not job.every:
            log.error("job given up", error="its attempts ended without a result, as when a process dies")
            return lambda stored: stored.fail(claimed, process_id, "ProcessDied")
        try:
            await self._run_in_time(job, JobContext(self._state, attempt), claimed)
        # Broad, since a job of the project's own may raise anything; all of it is logged and tried again.
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if scope.cancel_called:
                raise
            if isinstance(error, JobInterrupted) and self._shutdown.requested.is_set():
                return self._release(claimed)
            return self._failed(job, claimed, error)
        if job.every:
            every = job.every
            return lambda stored: stored.reschedule(claimed, process_id, every, attempts=0)
        return lambda stored: stored.delete_claimed(claimed, process_id)

    async def _run_in_time(self, job: Job, context: JobContext, claimed: ClaimedJob) -> None:
        with move_on_after(math.inf if job.timeout is None else job.timeout) as in_time:
            await job.run(context, claimed.arguments)
        if in_time.cancelled_caught:
            raise JobFailed(f"it took longer than {job.timeout:g} s")

    def _failed(self, job: Job, claimed: ClaimedJob, error: BaseException) -> Store:
        """Logs why an attempt failed, and returns what is to be stored of it."""
        process_id, attempt, name = self._heartbeat.id, claimed.attempt, type(error).__name__
        note_failure(name)
        is_known = isinstance(error, (AppError, JobFailed, SQLAlchemyError))
        facts = {"error": str(error) if isinstance(error, (AppError, JobFailed)) else name}
        if job.attempts is not None and attempt >= job.attempts and not job.every:
            log.error("job failed", **facts, exc_info=None if is_known else error)
            return lambda stored: stored.fail(claimed, process_id, facts["error"])
        pause = PAUSES[min(attempt, len(PAUSES)) - 1]
        pause = min(pause, job.every or pause)
        log.warning("job attempt failed", **facts, again_in=pause, exc_info=None if is_known else error)
        return lambda stored: stored.reschedule(claimed, process_id, pause, attempts=attempt, error=facts["error"])

    async def _store(self, store: Store) -> None:
        async def write() -> bool:
            async with self.database.write() as session:
                return await store(JobRepository(session))

        if not await retry(write, "end of a job", is_patient=lambda: not self._shutdown.is_over):
            log.warning("job end ignored", error="another process has taken the job over, or it was deleted")


@asynccontextmanager
async def open_worker(worker: JobWorker, settings: Settings, supervisor: Supervisor) -> AsyncGenerator[None]:
    """Runs jobs until the block ends; those that are not done by the end of the shutdown go back to the queue."""
    await worker.begin()
    async with open_listener(worker.database, settings, CHANNEL, worker.wake):
        with supervisor.watch("jobs", LOOK_SECONDS) as loop:
            working = asyncio.create_task(worker.work(loop))
            try:
                yield
            finally:
                await asyncio.wait({working}, timeout=worker.stop())
                worker.cancel()
                await working
