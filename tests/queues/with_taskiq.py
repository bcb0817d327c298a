"""Runs taskiq over NATS JetStream or RabbitMQ. Neither can take part in the caller's transaction."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aio_pika
import asyncpg
import nats
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError
from taskiq import AsyncBroker
from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue
from taskiq_nats import PullBasedJetStreamBroker
from work import CONCURRENCY, CRASHES, Worker

PACKAGES = ("taskiq", "taskiq-nats", "taskiq-aio-pika")
MODULES = "taskiq, taskiq_nats, taskiq_aio_pika"
LICENCE_OF = "taskiq"
AFTER_COMMIT = True
NATS, RABBIT = "nats://127.0.0.1:4222", "amqp://guest:guest@127.0.0.1:5672/?heartbeat=4"
ACK_SECONDS = 30
"""Sets how long JetStream waits for an acknowledgement; taskiq cannot extend it while a task runs."""


def open_broker(engine: str, url: str) -> AsyncBroker:
    name = urlsplit(url).path.strip("/")
    if engine == "taskiq-nats":
        return PullBasedJetStreamBroker(
            NATS,
            subject=name,
            stream_name=name,
            durable=name,
            stream_config=StreamConfig(retention=RetentionPolicy.WORK_QUEUE),
            consumer_config=ConsumerConfig(durable_name=name, ack_wait=ACK_SECONDS, max_deliver=CRASHES + 1),
            pull_consume_timeout=5,
        )
    queue = Queue(name=name, arguments={"x-delivery-limit": CRASHES})
    dead = Queue(name=f"{name}.dead")
    return AioPikaBroker(
        RABBIT, qos=CONCURRENCY, exchange=Exchange(name=name), task_queues=[queue], dead_letter_queue=dead
    )


async def prepare(engine: str, url: str) -> None:
    await drop(engine, url)


async def drop(engine: str, url: str) -> None:
    name = urlsplit(url).path.strip("/")
    if engine == "taskiq-nats":
        client = await nats.connect(NATS)
        try:
            await client.jetstream().delete_stream(name)
        except NotFoundError:
            logging.debug("there is no stream %s", name)
        await client.close()
    else:
        async with await aio_pika.connect(RABBIT) as connection:
            channel = await connection.channel()
            for queue in (name, f"{name}.dead"):
                await channel.queue_delete(queue)
            await channel.exchange_delete(name)


@asynccontextmanager
async def open_queue(engine: str, url: str) -> AsyncIterator[Any]:
    broker = open_broker(engine, url)
    task = broker.register_task(_nothing, task_name="execute")
    await broker.startup()

    async def enqueue(connection: asyncpg.Connection, ids: Collection[UUID], priority: int = 0) -> None:
        await asyncio.gather(*(task.kiq(str(id)) for id in ids))

    try:
        yield enqueue
    finally:
        await broker.shutdown()


async def _nothing(id: str) -> None:
    """Stands for the task where it is only queued."""


async def work(worker: Worker) -> None:
    logging.basicConfig(level="WARNING", format="%(created).3f %(name)s %(message)s")
    broker = open_broker(worker.engine, worker.url)

    async def execute(id: str) -> None:
        await worker.persist(UUID(id))

    broker.register_task(execute, task_name="execute")
    broker.is_worker_process = True
    await run_receiver_task(
        broker, max_async_tasks=CONCURRENCY, run_startup=True, ack_time=AcknowledgeType.WHEN_EXECUTED
    )
