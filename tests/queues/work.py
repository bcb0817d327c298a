"""Defines the work that every engine is to have done: executions of some steps, each of which is one transaction."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from random import getrandbits
from typing import Any
from uuid import UUID, uuid4

import asyncpg

CONCURRENCY = 20
"""Limits the executions that a worker runs at a time."""
DEAD_SECONDS = 5.0
CRASHES = 5
"""Limits how often the process of an execution may die, where an engine can limit it."""
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""Lists what asyncpg raises while the database cannot be reached; the third when a connection ends in a commit."""
SCHEMA = """
CREATE TABLE executions (
    id uuid PRIMARY KEY,
    person int NOT NULL,
    status text NOT NULL DEFAULT 'queued',
    run_id uuid,
    process_id uuid,
    last_sequence int NOT NULL DEFAULT 0,
    losses int NOT NULL DEFAULT 0,
    steps int NOT NULL DEFAULT 4,
    wait float8 NOT NULL DEFAULT 0,
    kills bool NOT NULL DEFAULT false
);
CREATE INDEX executions_open ON executions (id) WHERE status IN ('queued', 'running');
CREATE TABLE events (
    execution_id uuid NOT NULL REFERENCES executions ON DELETE CASCADE,
    sequence int NOT NULL,
    data jsonb NOT NULL,
    worker text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (execution_id, sequence)
);
CREATE TABLE processes (id uuid PRIMARY KEY, beat_at timestamptz NOT NULL);
"""
CREATE = "INSERT INTO executions (id, person, steps, wait, kills) SELECT unnest($1::uuid[]), $2, $3, $4, $5"
CLAIM = """
UPDATE executions SET status = 'running', run_id = $2 WHERE id = $1 AND status IN ('queued', 'running') RETURNING *
"""
ADVANCE = """
UPDATE executions SET last_sequence = last_sequence + 2, losses = 0,
    status = CASE WHEN last_sequence + 2 >= 2 * steps THEN 'completed' ELSE status END
WHERE id = $1 AND run_id = $2 AND last_sequence = $3 RETURNING true
"""
EVENTS = "INSERT INTO events (execution_id, sequence, data, worker) VALUES ($1, $2, $4, $5), ($1, $3, $4, $5)"
DATA = json.dumps({"tool_call_id": "call-1", "name": "search", "arguments": {"query": "word " * 50}})
BEAT = """
INSERT INTO processes VALUES ($1, clock_timestamp()) ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at
"""
ALIVE = f"SELECT id FROM processes WHERE beat_at >= clock_timestamp() - interval '{DEAD_SECONDS} s'"


class LostError(Exception):
    """Says that another run has the execution."""


@dataclass(frozen=True)
class Worker:
    """Runs executions in one process. Its runs are valid as long as the row has their `run_id`."""

    engine: str
    name: str
    url: str
    pool: asyncpg.Pool
    id: UUID = field(default_factory=uuid4)

    async def run(self, id: UUID) -> None:
        """Runs an execution from where it stands, under a new run id. Ends quietly when another run takes it."""
        if row := await self.pool.fetchrow(CLAIM, id, uuid4()):
            await self.go_on(row)

    async def persist(self, id: UUID) -> None:
        """Does the same for engines that would give up the execution after an error."""
        while True:
            try:
                return await self.run(id)
            except ERRORS as error:
                log(f"{id} goes on after {error!r}")
                await asyncio.sleep(1)

    async def go_on(self, row: Mapping[str, Any]) -> None:
        try:
            for sequence in range(row["last_sequence"], 2 * row["steps"], 2):
                await self._step(row, sequence)
        except LostError:
            log(f"{row['id']} is another's")

    async def _step(self, row: Mapping[str, Any], sequence: int) -> None:
        if row["wait"]:
            began = {"id": str(row["id"]), "step": sequence // 2, "worker": self.name, "at": time.time()}
            print(json.dumps(began), flush=True)
            await asyncio.sleep(row["wait"])
        if row["kills"]:
            os._exit(9)
        async with self.pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(ADVANCE, row["id"], row["run_id"], sequence):
                raise LostError
            await connection.execute(EVENTS, row["id"], sequence + 1, sequence + 2, DATA, self.name)


@dataclass
class Heartbeat:
    """Lets other processes know that this one is alive, for engines that do not do so themselves."""

    worker: Worker
    _last: float = field(default_factory=time.monotonic)
    _steady_since: float = field(default_factory=time.monotonic)

    @property
    def can_detect_dead(self) -> bool:
        """Tells whether its own heartbeats came without a gap for so long that processes without any are dead."""
        now = time.monotonic()
        return now - self._last < DEAD_SECONDS <= now - self._steady_since

    async def beat_for_ever(self) -> None:
        while True:
            try:
                await self.worker.pool.execute(BEAT, self.worker.id, timeout=3)
                now = time.monotonic()
                if now - self._last >= DEAD_SECONDS:
                    self._steady_since = now
                self._last = now
            except ERRORS as error:
                log(f"no heartbeat: {error!r}")
            await asyncio.sleep(1)


async def open_pool(url: str) -> asyncpg.Pool:
    return await asyncpg.create_pool(url, min_size=1, max_size=4, timeout=5, command_timeout=5)


async def create(
    connection: asyncpg.Connection,
    number: int,
    *,
    person: int = 1,
    steps: int = 4,
    wait: float = 0,
    kills: bool = False,
) -> Collection[UUID]:
    ids = [new_id() for _ in range(number)]
    await connection.execute(CREATE, ids, person, steps, wait, kills)
    return ids


def new_id() -> UUID:
    """Returns a UUID that sorts by the time of its creation."""
    return UUID(int=time.time_ns() << 64 | getrandbits(64))


def log(text: str) -> None:
    print(f"{time.time():.3f} {text}", file=sys.stderr, flush=True)
