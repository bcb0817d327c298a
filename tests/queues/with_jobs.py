"""Runs what came of this comparison: a table of jobs beside the executions, with turns, a fence and NOTIFY."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from with_own import Listener
from work import ALIVE, CONCURRENCY, ERRORS, Heartbeat, Worker, log

PACKAGES = ("asyncpg",)
MODULES = "asyncpg"
LICENCE_OF = "asyncpg"
CHANNEL = "background_jobs"
LOOK_SECONDS = 1.0
ATTEMPTS = 6
SCHEMA = """
CREATE TABLE background_jobs (
    id uuid PRIMARY KEY,
    execution_id uuid NOT NULL,
    person int NOT NULL,
    status text NOT NULL DEFAULT 'queued',
    priority int NOT NULL DEFAULT 0,
    turn bigint NOT NULL,
    key text,
    attempts int NOT NULL DEFAULT 0,
    process_id uuid
);
CREATE INDEX jobs_queued ON background_jobs (priority, turn, id) WHERE status = 'queued';
CREATE INDEX jobs_running ON background_jobs (process_id) WHERE status = 'running';
CREATE INDEX jobs_of_person ON background_jobs (person, turn);
CREATE UNIQUE INDEX jobs_key ON background_jobs (key) WHERE status = 'queued';
"""
ENQUEUE = """
INSERT INTO background_jobs (id, execution_id, person, key, priority, turn)
SELECT $1, $2::uuid, $3::int, $2::uuid::text, $4::int, 1 + coalesce(max(turn), 0) FROM (
    SELECT min(turn) AS turn FROM background_jobs WHERE status = 'queued' AND priority = $4::int
    UNION ALL SELECT max(turn) FROM background_jobs WHERE status = 'queued' AND person = $3::int
) AS turns
ON CONFLICT DO NOTHING
"""
PERSONS = "SELECT id, person FROM executions WHERE id = ANY ($1) ORDER BY id"
LOST = f"""
UPDATE background_jobs SET status = 'queued', process_id = NULL WHERE status = 'running' AND (
    process_id = $1 AND id <> ALL ($2) OR $3 AND process_id <> $1 AND process_id NOT IN ({ALIVE})
)
"""
NEXT = "SELECT id FROM background_jobs WHERE status = 'queued' ORDER BY priority, turn, id LIMIT $1"
CLAIM = """
UPDATE background_jobs SET status = 'running', process_id = $1, attempts = attempts + 1, key = NULL WHERE id IN (
    SELECT id FROM background_jobs WHERE status = 'queued' AND id = ANY ($2) FOR UPDATE SKIP LOCKED
) RETURNING *
"""
END = "DELETE FROM background_jobs WHERE status = 'running' AND id = $1 AND process_id = $2 AND attempts = $3"
GIVE_UP = "UPDATE executions SET status = 'failed' WHERE id = $1"


async def prepare(engine: str, url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(SCHEMA)
    await connection.close()


async def drop(engine: str, url: str) -> None:
    """Leaves nothing outside the database."""


@asynccontextmanager
async def open_queue(engine: str, url: str) -> AsyncIterator[Any]:
    yield enqueue


async def enqueue(connection: asyncpg.Connection, ids: Collection[UUID], priority: int = 0) -> None:
    """Adds a job for each execution in the caller's transaction, and wakes the workers when it commits."""
    for row in await connection.fetch(PERSONS, ids):
        await connection.execute(ENQUEUE, uuid4(), row["id"], row["person"], -priority)
    await connection.execute(f"SELECT pg_notify('{CHANNEL}', '')")


async def work(worker: Worker) -> None:
    loops = _Loops(worker)
    listener = Listener(worker, CHANNEL, loops.wake.set)
    await asyncio.gather(loops.heartbeat.beat_for_ever(), loops.turn_for_ever(), listener.listen())


class _Loops:
    def __init__(self, worker: Worker) -> None:
        self.worker, self.heartbeat = worker, Heartbeat(worker)
        self.jobs: dict[UUID, asyncio.Task[None]] = {}
        self.wake = asyncio.Event()

    async def turn_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        look_at = 0.0
        while True:
            try:
                if loop.time() >= look_at:
                    await self.worker.pool.execute(
                        LOST, self.worker.id, list(self.jobs), self.heartbeat.can_detect_dead
                    )
                    look_at = loop.time() + LOOK_SECONDS
                await self._claim()
            except ERRORS as error:
                log(f"no turn: {error!r}")
                await asyncio.sleep(0.5)
            try:
                await asyncio.wait_for(self.wake.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue
            self.wake.clear()

    async def _claim(self) -> None:
        while room := CONCURRENCY - len(self.jobs):
            ids = [row["id"] for row in await self.worker.pool.fetch(NEXT, room)]
            if not ids:
                return
            for row in await self.worker.pool.fetch(CLAIM, self.worker.id, ids):
                job = self.jobs[row["id"]] = asyncio.create_task(self._run(row))
                job.add_done_callback(partial(self._ended, row["id"]))

    async def _run(self, row: Mapping[str, Any]) -> None:
        if row["attempts"] > ATTEMPTS:
            await self.worker.pool.execute(GIVE_UP, row["execution_id"])
        else:
            await self.worker.persist(row["execution_id"])
        while True:
            try:
                await self.worker.pool.execute(END, row["id"], self.worker.id, row["attempts"])
                return
            except ERRORS as error:
                log(f"{row['id']} has not ended: {error!r}")
                await asyncio.sleep(0.5)

    def _ended(self, id: UUID, job: asyncio.Task[None]) -> None:
        del self.jobs[id]
        self.wake.set()
        if not job.cancelled() and (error := job.exception()):
            log(f"{id} ended with {error!r}")
