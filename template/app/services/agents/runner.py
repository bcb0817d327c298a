"""Runs executions in this process, one job for each, and stops those that this process may not run any more."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from app.core.database import Database
from app.core.jobs import JobInterrupted
from app.core.periodic import Supervisor
from app.models.base import now
from app.repositories.execution_queue import Claim, Claimant, RunRepository
from app.services.agents.dependencies import RunDependencies
from app.services.agents.run import Run
from app.services.processes.heartbeat import Heartbeat

QUEUE = "executions"
"""Names the queue of the jobs that run executions, of which WORKER_CONCURRENCY run at a time."""
CHECK_SECONDS = 0.5
"""Sets the pause between two looks at what other processes cancelled."""
DELETED_AT_ONCE = 100
RECOVERED_AT_ONCE = 1_000


class ExecutionRunner:
    def __init__(self, dependencies: RunDependencies, heartbeat: Heartbeat) -> None:
        self.dependencies = dependencies
        self._heartbeat = heartbeat
        self.runs: dict[UUID, Run] = {}

    async def run(self, execution_id: UUID) -> None:
        """Runs an execution until it ends or waits. Does nothing when it cannot be claimed: `recover` looks again.

        Raises JobInterrupted when this process stops before the execution ends.
        """
        while not self.dependencies.notifier.stopping:
            claim = await self._claim(execution_id)
            if claim is None or await self._run(claim):
                return
        raise JobInterrupted

    async def _run(self, claim: Claim) -> bool:
        """Returns whether the execution has ended or waits; if not, another run goes on with it."""
        run = self.runs[claim.run_id] = Run(self.dependencies, claim)
        try:
            return await run()
        finally:
            del self.runs[claim.run_id]

    async def cancel_lost(self) -> None:
        """Stops runs that were cancelled, taken over since this process seemed dead, or whose user was deactivated."""
        if not self.runs:
            return
        known = set(self.runs)  # copied before the query: a run that starts meanwhile is not lost
        async with self.dependencies.database.read() as session:
            mine = await RunRepository(session).of_process(self._heartbeat.id)
        for run_id in known.difference(mine):
            if run := self.runs.get(run_id):
                run.cancel()

    async def recover(self) -> None:
        """Adds jobs for executions that no job will run: those of versions before 0.2, and of lost processes."""
        async with self.dependencies.database.read() as session:
            ids = await RunRepository(session).list_claimable(self._claimant, RECOVERED_AT_ONCE)
        if ids:
            async with self.dependencies.database.write() as session:
                await RunRepository(session).enqueue_missing(ids)

    async def _claim(self, execution_id: UUID) -> Claim | None:
        async with self.dependencies.database.write() as session:
            return await RunRepository(session).claim(self._claimant, execution_id)

    @property
    def _claimant(self) -> Claimant:
        return Claimant(self._heartbeat.id, frozenset(self.runs), also_of_dead=self._heartbeat.can_detect_dead)


@asynccontextmanager
async def open_runner(
    dependencies: RunDependencies, heartbeat: Heartbeat, supervisor: Supervisor
) -> AsyncGenerator[ExecutionRunner]:
    runner = ExecutionRunner(dependencies, heartbeat)
    async with supervisor.repeat("executions", runner.cancel_lost, CHECK_SECONDS):
        yield runner


async def delete_old_executions(database: Database, days: int) -> None:
    """Deletes executions that ended so many days ago; 0 keeps them for ever."""
    before, left = now() - timedelta(days=days), bool(days)
    while left:
        async with database.write() as session:
            left = await RunRepository(session).delete_finished(before, DELETED_AT_ONCE) == DELETED_AT_ONCE
