"""Runs the queue that the application had in 0.1, in which the executions are the queue."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
from work import ALIVE, CONCURRENCY, CRASHES, ERRORS, Heartbeat, Worker, log

PACKAGES = ("asyncpg",)
MODULES = "asyncpg"
LICENCE_OF = "asyncpg"
POLL_SECONDS = {"own": 0.5, "own+notify": 2.0}
CLAIM = f"""
WITH claimable AS MATERIALIZED (
    SELECT id, status = 'running' AND process_id <> $1 AS of_dead FROM executions
    WHERE status = 'queued' OR status = 'running' AND (
        process_id = $1 AND run_id <> ALL ($2) OR $3 AND process_id <> $1 AND process_id NOT IN ({ALIVE})
    )
    ORDER BY id LIMIT $4 FOR UPDATE SKIP LOCKED
)
UPDATE executions SET run_id = gen_random_uuid(), process_id = $1, losses = losses + of_dead::int,
    status = CASE WHEN losses + of_dead::int > {CRASHES} THEN 'failed' ELSE 'running' END
FROM claimable WHERE executions.id = claimable.id RETURNING executions.*
"""
MINE = "SELECT run_id FROM executions WHERE status = 'running' AND process_id = $1"


async def prepare(engine: str, url: str) -> None:
    """Needs no tables of its own."""


async def drop(engine: str, url: str) -> None:
    """Leaves nothing outside the database."""


@asynccontextmanager
async def open_queue(engine: str, url: str) -> AsyncIterator[Any]:
    yield partial(enqueue, engine)


async def enqueue(engine: str, connection: asyncpg.Connection, ids: Collection[UUID], priority: int = 0) -> None:
    """Wakes the workers when the transaction commits."""
    if engine == "own+notify":
        await connection.execute("SELECT pg_notify('executions', '')")


async def work(worker: Worker) -> None:
    loops = _Loops(worker)
    listen = [Listener(worker, "executions", loops.wake.set).listen()] if worker.engine == "own+notify" else []
    await asyncio.gather(loops.heartbeat.beat_for_ever(), loops.turn_for_ever(), *listen)


class _Loops:
    def __init__(self, worker: Worker) -> None:
        self.worker, self.heartbeat = worker, Heartbeat(worker)
        self.runs: dict[UUID, asyncio.Task[None]] = {}
        self.wake = asyncio.Event()

    async def turn_for_ever(self) -> None:
        while True:
            try:
                await self._turn()
            except ERRORS as error:
                log(f"no turn: {error!r}")
                await asyncio.sleep(0.5)
            try:
                await asyncio.wait_for(self.wake.wait(), POLL_SECONDS[self.worker.engine])
            except TimeoutError:
                continue
            self.wake.clear()

    async def _turn(self) -> None:
        if known := set(self.runs):
            mine = {row["run_id"] for row in await self.worker.pool.fetch(MINE, self.worker.id)}
            for run_id in known - mine:
                if run := self.runs.get(run_id):
                    run.cancel()
        if room := CONCURRENCY - len(self.runs):
            asked = (self.worker.id, list(self.runs), self.heartbeat.can_detect_dead, room)
            for row in await self.worker.pool.fetch(CLAIM, *asked):
                if row["status"] == "running":
                    self._start(row)

    def _start(self, row: Mapping[str, Any]) -> None:
        run = self.runs[row["run_id"]] = asyncio.create_task(self.worker.go_on(row))
        run.add_done_callback(partial(self._ended, row["run_id"]))

    def _ended(self, run_id: UUID, run: asyncio.Task[None]) -> None:
        del self.runs[run_id]
        self.wake.set()
        if not run.cancelled() and (error := run.exception()):
            log(f"{run_id} ended with {error!r}")


@dataclass(frozen=True)
class Listener:
    """Calls `hear` at each announcement, on a connection of its own; opens another when that one breaks."""

    worker: Worker
    channel: str
    hear: Callable[[], None]

    async def listen(self) -> None:
        while True:
            try:
                connection = await asyncpg.connect(self.worker.url, timeout=3)
                try:
                    await connection.add_listener(self.channel, lambda *_: self.hear())
                    self.hear()
                    while True:
                        await connection.execute("SELECT 1", timeout=3)
                        await asyncio.sleep(2)
                finally:
                    connection.terminate()
            except ERRORS as error:
                log(f"does not listen: {error!r}")
            await asyncio.sleep(0.5)
