"""Runs DBOS: workflows in PostgreSQL, polled; an execution is one workflow. It needs heartbeats of ours."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
from dbos import DBOS, run_dbos_database_migrations
from work import ALIVE, CONCURRENCY, CRASHES, ERRORS, Heartbeat, Worker, log

PACKAGES = ("dbos",)
MODULES = "dbos"
LICENCE_OF = "dbos"
ENQUEUE = """
SELECT dbos.enqueue_workflow(
    'execute', 'executions', ARRAY[to_json(id::text)], workflow_id => id::text, app_version => '1', priority => $2
) FROM unnest($1::uuid[]) id
"""
DEAD = f"""
SELECT DISTINCT executor_id FROM dbos.workflow_status
WHERE status = 'PENDING' AND executor_id <> $1 AND executor_id NOT IN (SELECT id::text FROM ({ALIVE}) alive)
"""


async def prepare(engine: str, url: str) -> None:
    await asyncio.to_thread(run_dbos_database_migrations, url)


async def drop(engine: str, url: str) -> None:
    """Leaves nothing outside the database."""


@asynccontextmanager
async def open_queue(engine: str, url: str) -> AsyncIterator[Any]:
    yield enqueue


async def enqueue(connection: asyncpg.Connection, ids: Collection[UUID], priority: int = 0) -> None:
    await connection.execute(ENQUEUE, ids, max(0, -priority))


async def work(worker: Worker) -> None:
    DBOS(
        config={
            "name": "queues",
            "system_database_url": worker.url,
            "executor_id": str(worker.id),
            "application_version": "1",
            "log_level": "WARNING",
            "sys_db_pool_size": 4,
            "db_engine_kwargs": {"connect_args": {"application_name": worker.name, "connect_timeout": 5}},
            "run_migrations": False,
        }
    )

    @DBOS.workflow(name="execute", max_recovery_attempts=CRASHES)
    async def execute(id: str) -> None:
        await worker.persist(UUID(id))

    DBOS.launch()
    await DBOS.register_queue_async("executions", worker_concurrency=CONCURRENCY, polling_interval_sec=0.1)
    heartbeat = Heartbeat(worker)
    await asyncio.gather(heartbeat.beat_for_ever(), _recover(worker, heartbeat))


async def _recover(worker: Worker, heartbeat: Heartbeat) -> None:
    """Takes over the workflows of dead processes, which DBOS does only with its paid service."""
    while True:
        await asyncio.sleep(1)
        try:
            if heartbeat.can_detect_dead and (found := await worker.pool.fetch(DEAD, str(worker.id))):
                log(f"recovers the workflows of {len(found)} processes")
                await asyncio.to_thread(DBOS._recover_pending_workflows, [row["executor_id"] for row in found])
        except ERRORS as error:
            log(f"does not recover: {error!r}")
