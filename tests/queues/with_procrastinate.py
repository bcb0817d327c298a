"""Runs procrastinate: its rows in PostgreSQL, LISTEN and NOTIFY, heartbeats of workers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
from procrastinate import App, PsycopgConnector, RetryStrategy
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status
from work import CONCURRENCY, CRASHES, DEAD_SECONDS, ERRORS, Worker, log

PACKAGES = ("procrastinate", "psycopg", "psycopg-binary", "psycopg-pool")
MODULES = "procrastinate, psycopg_pool, psycopg"
LICENCE_OF = "procrastinate"
ENQUEUE = """
SELECT procrastinate_defer_jobs_v1(ARRAY(
    SELECT ROW ('executions', 'execute', $2, id::text, NULL, jsonb_build_object('id', id), NULL)
        ::procrastinate_job_to_defer_v1
    FROM unnest($1::uuid[]) id
))
"""
SWEEP = """
SELECT procrastinate_defer_jobs_v1(array_agg(
    ROW ('executions', 'execute', 0, id::text, NULL, jsonb_build_object('id', id), NULL)::procrastinate_job_to_defer_v1
)) FROM executions WHERE status IN ('queued', 'running') AND NOT EXISTS (
    SELECT FROM procrastinate_jobs WHERE lock = executions.id::text AND procrastinate_jobs.status IN ('todo', 'doing')
) HAVING count(*) > 0
"""


def open_app(url: str) -> App:
    return App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=4, kwargs={"connect_timeout": 5}))


async def prepare(engine: str, url: str) -> None:
    async with (app := open_app(url)).open_async():
        await app.schema_manager.apply_schema_async()


async def drop(engine: str, url: str) -> None:
    """Leaves nothing outside the database."""


@asynccontextmanager
async def open_queue(engine: str, url: str) -> AsyncIterator[Any]:
    yield enqueue


async def enqueue(connection: asyncpg.Connection, ids: Collection[UUID], priority: int = 0) -> None:
    await connection.execute(ENQUEUE, ids, priority)


async def work(worker: Worker) -> None:
    logging.basicConfig(level="WARNING", format="%(created).3f %(name)s %(message)s")
    app = open_app(worker.url)

    @app.task(name="execute", queue="executions", retry=RetryStrategy(max_attempts=20, wait=1))
    async def execute(id: str) -> None:
        await worker.run(UUID(id))

    async with app.open_async():
        sweep = [_sweep(worker)] if worker.engine == "procrastinate+sweep" else []
        await asyncio.gather(_supervise(app), _recover(app), *sweep)


async def _supervise(app: App) -> None:
    """Starts the worker again when it ends by itself, as it does when one of its side tasks fails."""
    while True:
        try:
            await app.run_worker_async(
                concurrency=CONCURRENCY,
                fetch_job_polling_interval=2,
                delete_jobs="successful",
                update_heartbeat_interval=1,
                stalled_worker_timeout=2 * DEAD_SECONDS,
                install_signal_handlers=False,
            )
            log("the worker ended by itself")
        except ConnectorException as error:
            log(f"the worker ended with {error!r}: {error.__cause__!r}")
        await asyncio.sleep(1)


async def _recover(app: App) -> None:
    """Queues the jobs of dead workers again, as the manual recommends, but more often."""
    while True:
        await asyncio.sleep(1)
        try:
            for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=DEAD_SECONDS):
                if job.attempts > CRASHES:
                    await app.job_manager.finish_job(job, Status.FAILED, delete_job=False)
                else:
                    log(f"recovers {job.id}")
                    await app.job_manager.retry_job(job)
        except ConnectorException as error:
            log(f"does not recover: {error!r}: {error.__cause__!r}")


async def _sweep(worker: Worker) -> None:
    """Queues executions again whose job is gone, since a worker that was paused deletes jobs that another runs."""
    while True:
        await asyncio.sleep(5)
        try:
            if await worker.pool.fetchval(SWEEP):
                log("queues again what has no job")
        except ERRORS as error:
            log(f"does not sweep: {error!r}")
