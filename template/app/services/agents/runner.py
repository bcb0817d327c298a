"""Runs executions in this process, and stops those that it may not run any more."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from app.core.database import Database
from app.core.jobs import JobInterrupted
from app.core.periodic import Supervisor
from app.models.base import now
from app.models.message import MessageStatus
from app.repositories.execution_queue import Claim, Claimant, RunRepository
from app.repositories.reply import ReplyRepository
from app.services.agents.dependencies import RunDependencies
from app.services.agents.run import Run
from app.services.agents.settling import settle
from app.services.processes.heartbeat import Heartbeat

QUEUE = "executions"
"""Names the queue of the jobs that run executions, of which WORKER_CONCURRENCY run at a time."""
CHECK_SECONDS = 0.5
"""Sets the pause between two looks at what other processes cancelled."""
KNOWN_SECONDS = 10.0
"""Sets how long readers of a reply that begins find its run without reading the execution."""
DELETED_AT_ONCE = 100
RECOVERED_AT_ONCE = 1_000


class ExecutionRunner:
    def __init__(self, dependencies: RunDependencies, heartbeat: Heartbeat) -> None:
        self.dependencies = dependencies
        self.heartbeat = heartbeat
        self.runs: dict[UUID, Run] = {}
        self._started: dict[UUID, asyncio.Task[bool]] = {}
        self._run_ids: dict[UUID, UUID] = {}

    @property
    def has_room(self) -> bool:
        """Tells whether a reply can be written here at once, without the queue."""
        is_free = len(self.runs) < self.dependencies.settings.worker_concurrency
        return is_free and not self.dependencies.notifier.stopping

    def start(self, claim: Claim) -> None:
        """Runs an execution that was stored as claimed by this process, in a task of its own."""
        run = self.runs[claim.run_id] = Run(self.dependencies, claim)
        task = self._started[claim.run_id] = asyncio.create_task(self._run(claim.run_id, run))
        task.add_done_callback(lambda _task: self._started.pop(claim.run_id))
        self._run_ids[claim.execution.id] = claim.run_id
        asyncio.get_running_loop().call_later(KNOWN_SECONDS, self._run_ids.pop, claim.execution.id)

    def find_run(self, execution_id: UUID) -> UUID | None:
        """Returns the run of an execution that was just started here, whose live stream has all of it."""
        return self._run_ids.get(execution_id)

    def stop(self, run_id: UUID | None) -> None:
        """Ends a run with the text that there is, if it is this process's."""
        if run_id and (run := self.runs.get(run_id)):
            run.stop()

    async def finish(self, grace_seconds: float) -> None:
        """Waits for what was started here; what takes longer goes on in other processes."""
        if self._started:
            await asyncio.wait(self._started.values(), timeout=grace_seconds)
        for run_id in self._started:
            self.runs[run_id].cancel()
        await asyncio.gather(*self._started.values())

    async def run(self, execution_id: UUID) -> None:
        """Runs an execution until it ends or waits. Does nothing when it cannot be claimed: `recover` looks again.

        Raises JobInterrupted when this process stops before the execution ends.
        """
        while not self.dependencies.notifier.stopping:
            claim = await self._claim(execution_id)
            if claim is None:
                return
            run = self.runs[claim.run_id] = Run(self.dependencies, claim)
            if await self._run(claim.run_id, run):
                return
        raise JobInterrupted

    async def _run(self, run_id: UUID, run: Run) -> bool:
        """Returns whether the execution has ended or waits; if not, another run goes on with it."""
        try:
            return await run()
        finally:
            del self.runs[run_id]

    async def check(self) -> None:
        """Stops runs that a person has asked to stop.

        Cancels those that were taken over since this process seemed dead, or cancelled, or whose user was deactivated.
        """
        if not self.runs:
            return
        known = set(self.runs)  # copied before the query: a run that starts meanwhile is not lost
        async with self.dependencies.database.read() as session:
            mine = await RunRepository(session).of_process(self.heartbeat.id)
        for run_id in known & self.runs.keys():
            if run_id not in mine:
                self.runs[run_id].cancel()
            elif mine[run_id]:
                self.runs[run_id].stop()

    async def recover(self) -> None:
        """Adds jobs for executions that no job will run: those of versions before 0.2, and of lost processes.

        Ends the replies of those that ended without them, or are gone.
        """
        async with self.dependencies.database.read() as session:
            ids = await RunRepository(session).list_claimable(self._claimant, RECOVERED_AT_ONCE)
        if ids:
            async with self.dependencies.database.write() as session:
                await RunRepository(session).enqueue_missing(ids)
        await self._settle()

    async def _settle(self) -> None:
        async with self.dependencies.database.read() as session:
            unsettled = await RunRepository(session).list_unsettled(RECOVERED_AT_ONCE)
            lost = await RunRepository(session).list_lost_replies(RECOVERED_AT_ONCE)
        for execution in unsettled:
            end = {"status": execution.status, "code": execution.code, "detail": execution.detail}
            async with self.dependencies.database.write() as session:
                await settle(session, execution, end, self.dependencies.chat_settings.history_max_tokens)
        for id in lost:
            async with self.dependencies.database.write() as session:
                await ReplyRepository(session).settle(id, {"status": MessageStatus.interrupted})

    async def _claim(self, execution_id: UUID) -> Claim | None:
        async with self.dependencies.database.write() as session:
            return await RunRepository(session).claim(self._claimant, execution_id)

    @property
    def _claimant(self) -> Claimant:
        return Claimant(self.heartbeat.id, frozenset(self.runs), also_of_dead=self.heartbeat.can_detect_dead)


@asynccontextmanager
async def open_runner(
    dependencies: RunDependencies, heartbeat: Heartbeat, supervisor: Supervisor
) -> AsyncGenerator[ExecutionRunner]:
    runner = ExecutionRunner(dependencies, heartbeat)
    async with supervisor.repeat("executions", runner.check, CHECK_SECONDS):
        finishing = asyncio.create_task(_finish(runner))
        try:
            yield runner
        finally:
            dependencies.shutdown.request()
            await finishing


async def _finish(runner: ExecutionRunner) -> None:
    shutdown = runner.dependencies.shutdown
    await shutdown.requested.wait()
    await runner.finish(shutdown.remaining())


async def delete_old_executions(database: Database, days: int) -> None:
    """Deletes executions that ended so many days ago; 0 keeps them for ever."""
    before, left = now() - timedelta(days=days), bool(days)
    while left:
        async with database.write() as session:
            left = await RunRepository(session).delete_finished(before, DELETED_AT_ONCE) == DELETED_AT_ONCE
