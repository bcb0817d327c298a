"""Works for one engine until it is killed: `python worker.py ENGINE NAME URL`."""

import asyncio
import sys
from importlib import import_module
from types import ModuleType

from work import Worker, log, open_pool

ENGINES = {
    "jobs": "with_jobs",
    "own": "with_own",
    "own+notify": "with_own",
    "procrastinate": "with_procrastinate",
    "procrastinate+sweep": "with_procrastinate",
    "pgqueuer": "with_pgqueuer",
    "dbos": "with_dbos",
    "taskiq-nats": "with_taskiq",
    "taskiq-rabbitmq": "with_taskiq",
}


def module_of(engine: str) -> ModuleType:
    return import_module(ENGINES[engine])


async def main(engine: str, name: str, url: str) -> None:
    url = f"{url}?application_name={name}"
    pool = await open_pool(url)
    log("starts")
    await module_of(engine).work(Worker(engine, name, url, pool))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
