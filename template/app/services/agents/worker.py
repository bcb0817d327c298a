"""Takes executions from the queue, and from workers that died, and runs them."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog

from app.core.database import Database
from app.core.periodic import Loop, Supervisor, repeat
from app.core.shutdown import Shutdown
from app.models.base import now
from app.repositories.execution_queue import Claim, Claimant, RunRepository
from app.services.agents.approvals import expire
from app.services.agents.dependencies import RunDependencies
from app.services.agents.run import Run
from app.services.processes.heartbeat import Heartbeat

TURN_SECONDS = 0.5
"""Sets the longest pause between two looks at what other processes queued and cancelled."""
EXPIRE_SECONDS = 5.0
FORGET_SECONDS = 3600.0
FORGOTTEN_AT_ONCE = 100

log = structlog.stdlib.get_logger("app.executions")


class Worker:
    def __init__(self, dependencies: RunDependencies, heartbeat: Heartbeat) -> None:
        self.dependencies = dependencies
        self._heartbeat = heartbeat
        self.runs: dict[UUID, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def work(self, loop: Loop) -> None:
        """Runs executions until the process stops and all runs have ended."""
        while self.runs or not self.dependencies.notifier.stopping:
            with loop.attempt():
                await self._turn()
            await self._rest()

    def cancel_runs(self) -> None:
        """Stops all runs at once."""
        for run in self.runs.values():
            run.cancel()

    async def _turn(self) -> None:
        await self._cancel_lost()
        room = (
            0 if self.dependencies.notifier.stopping else self.dependencies.settings.worker_concurrency - len(self.runs)
        )
        if room > 0:
            for claim in await self._claim(room):
                self._start(claim)

    async def _rest(self) -> None:
        work = self.dependencies.notifier.work
        with suppress(TimeoutError):
            async with asyncio.timeout(TURN_SECONDS):
                await work.wait()
        work.clear()

    async def _cancel_lost(self) -> None:
        """Stops runs that were cancelled, taken over since this process seemed dead, or whose user was deactivated."""
        if not self.runs:
            return
        known = set(self.runs)  # copied before the query: a run that starts meanwhile is not lost
        async with self.dependencies.database.read() as session:
            mine = await RunRepository(session).of_process(self._heartbeat.id)
        for run_id in known.difference(mine):
            if run := self.runs.get(run_id):
                run.cancel()

    async def _claim(self, room: int) -> Sequence[Claim]:
        claimant = Claimant(self._heartbeat.id, frozenset(self.runs), also_of_dead=self._heartbeat.can_detect_dead)
        async with self.dependencies.database.read() as session:
            ids = await RunRepository(session).claimable(claimant, room)
        if not ids:
            return []
        async with self.dependencies.database.write() as session:
            return await RunRepository(session).claim(claimant, ids)

    def _start(self, claim: Claim) -> None:
        run = self.runs[claim.run_id] = Run(self.dependencies, claim)
        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, claim.run_id))

    def _ended(self, run_id: UUID, task: asyncio.Task[None]) -> None:
        del self.runs[run_id]
        self._tasks.discard(task)
        self.dependencies.notifier.work.set()


@asynccontextmanager
async def open_worker(
    dependencies: RunDependencies, heartbeat: Heartbeat, supervisor: Supervisor, shutdown: Shutdown
) -> AsyncGenerator[Worker]:
    """Opens a worker. When the process stops, its executions are left to other workers, or to the next start."""
    worker = Worker(dependencies, heartbeat)
    heartbeat.is_worker = True
    await heartbeat.beat()
    async with AsyncExitStack() as stack:
        for name, work, seconds in (
            ("approvals", partial(expire, dependencies.database, dependencies.notifier), EXPIRE_SECONDS),
            (
                "retention",
                partial(delete_old_executions, dependencies.database, dependencies.settings.execution_retention_days),
                FORGET_SECONDS,
            ),
        ):
            await stack.enter_async_context(repeat(name, work, seconds))
        loop = stack.enter_context(supervisor.watch("executions", TURN_SECONDS))
        working = asyncio.create_task(worker.work(loop))
        try:
            yield worker
        finally:
            await asyncio.wait({working}, timeout=shutdown.remaining())
            worker.cancel_runs()
            await working


async def delete_old_executions(database: Database, days: int) -> None:
    """Deletes executions that ended so many days ago; 0 keeps them for ever."""
    before, left = now() - timedelta(days=days), bool(days)
    while left:
        async with database.write() as session:
            left = await RunRepository(session).delete_finished(before, FORGOTTEN_AT_ONCE) == FORGOTTEN_AT_ONCE
