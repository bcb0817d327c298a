"""Runs pgqueuer: its rows in PostgreSQL, LISTEN and NOTIFY, heartbeats of jobs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.executors import DatabaseRetryEntrypointExecutor
from pgqueuer.queries import Queries
from work import CONCURRENCY, DEAD_SECONDS, Worker, log

PACKAGES = ("pgqueuer", "asyncpg")
MODULES = "asyncpg, pgqueuer"
LICENCE_OF = "pgqueuer"
SECOND = timedelta(seconds=1)


async def prepare(engine: str, url: str) -> None:
    connection = await asyncpg.connect(url)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


async def drop(engine: str, url: str) -> None:
    """Leaves nothing outside the database."""


@asynccontextmanager
async def open_queue(engine: str, url: str) -> AsyncIterator[Any]:
    yield enqueue


async def enqueue(connection: asyncpg.Connection, ids: Collection[UUID], priority: int = 0) -> None:
    queries, number = Queries(AsyncpgDriver(connection)), len(ids)
    await queries.enqueue(["execute"] * number, [id.bytes for id in ids], [priority] * number)


async def work(worker: Worker) -> None:
    """Starts the worker again when it ends by itself."""
    logging.basicConfig(level="WARNING", format="%(created).3f %(name)s %(message)s")
    while True:
        try:
            async with asyncpg.create_pool(worker.url, min_size=2, max_size=4, timeout=5, command_timeout=5) as pool:
                await _run(worker, pool)
            log("the worker ended by itself")
        except Exception as error:
            log(f"the worker ended with {error!r}")
        await asyncio.sleep(1)


async def _run(worker: Worker, pool: asyncpg.Pool) -> None:
    queuer = PgQueuer.from_asyncpg_pool(pool)
    retry = partial(DatabaseRetryEntrypointExecutor, max_attempts=20, max_delay=SECOND)

    @queuer.entrypoint("execute", on_failure="hold", executor_factory=retry)
    async def execute(job: Any) -> None:
        await worker.run(UUID(bytes=job.payload))

    await queuer.run(
        dequeue_timeout=SECOND,
        batch_size=CONCURRENCY // 2,
        max_concurrent_tasks=CONCURRENCY,
        heartbeat_timeout=DEAD_SECONDS * SECOND,
        shutdown_on_listener_failure=True,
    )
