"""Measures what an engine costs when nothing goes wrong: throughput, waiting, processor time, memory, packages."""

import asyncio
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from random import random
from typing import Any
from uuid import UUID

from packaging.requirements import Requirement
from stage import Stage, percentile, servers_cpu
from work import create
from worker import module_of

NUMBER = 600
SPAN = "SELECT extract(epoch FROM max(at) - min(at)) FROM events"
FIRST = "SELECT extract(epoch FROM at) FROM events WHERE execution_id = $1 AND sequence = 2"
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()"
PAST = """
INSERT INTO executions (id, person, status, last_sequence)
SELECT ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, n % 1000, 'completed', 8
FROM generate_series(1, 1000000) n
"""
PAST_OF = {
    "pgqueuer": """
        INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority, aggregated)
        SELECT n, status, 'execute', 0, true FROM generate_series(1, 1000000) n,
            unnest(ARRAY['queued', 'picked', 'successful']::pgqueuer_status[]) status
    """,
    "dbos": """
        INSERT INTO dbos.workflow_status (
            workflow_uuid, status, name, queue_name, priority, created_at, updated_at, completed_at,
            application_version, executor_id, serialization, recovery_attempts
        ) SELECT 'past-' || n, 'SUCCESS', 'execute', 'executions', 0, n, n, n, '1', 'gone', 'portable_json', 1
        FROM generate_series(1, 1000000) n;
        INSERT INTO dbos.workflow_input SELECT 'past-' || n, '{}', n FROM generate_series(1, 1000000) n;
        INSERT INTO dbos.workflow_output SELECT 'past-' || n, 'null', NULL, n FROM generate_series(1, 1000000) n
    """,
}


async def settle(stage: Stage, number: int) -> None:
    """Starts workers until there are so many, and waits until none has anything to do."""
    while len(stage.workers) < number:
        stage.start(f"W{len(stage.workers)}")
    await asyncio.sleep(1)
    busy = 1.0
    while busy > 0.06 * number:
        before = sum(worker.cpu for worker in stage.workers)
        await asyncio.sleep(0.5)
        busy = sum(worker.cpu for worker in stage.workers) - before


async def throughput(stage: Stage, workers: int) -> dict[str, float]:
    """Returns executions a second, and the milliseconds of CPU that each costs the workers and the servers."""
    await settle(stage, workers)
    await stage.connection.execute("TRUNCATE events")
    own, servers = sum(worker.cpu for worker in stage.workers), await servers_cpu(stage)
    await stage.enqueue(NUMBER)
    if not await stage.completed(120):
        raise TimeoutError(f"{stage.engine} did not complete {NUMBER} executions in two minutes")
    span = float(await stage.connection.fetchval(SPAN))
    own = sum(worker.cpu for worker in stage.workers) - own
    used = {name: 1000 * (value - servers[name]) / NUMBER for name, value in (await servers_cpu(stage)).items()}
    return {"a second": NUMBER / span, "worker": 1000 * own / NUMBER, **used}


async def throughputs(stages: Sequence[Stage], workers: Sequence[int], rounds: int) -> dict[str, Any]:
    """Lets the engines take turns, and returns the medians."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        for stage in stages:
            for number in workers:
                for name, value in (await throughput(stage, number)).items():
                    found[stage.engine][f"{number}: {name}"].append(value)
            stage.stop()
            await asyncio.sleep(0.5)
    return {
        engine: {name: round(statistics.median(values), 2) for name, values in of.items()}
        | {"rates": {name: [round(v) for v in values] for name, values in of.items() if name.endswith("a second")}}
        for engine, of in found.items()
    }


async def first_step(stage: Stage, priority: int = 0) -> float:
    """Returns the milliseconds from the commit of an enqueue to the end of its first step."""
    [id] = await stage.enqueue(1, priority, person=2)
    began = time.time()
    await _exists(stage, id)
    return 1000 * (float(await stage.connection.fetchval(FIRST, id)) - began)


async def _exists(stage: Stage, id: UUID) -> None:
    while not await stage.connection.fetchval("SELECT true FROM events WHERE execution_id = $1 AND sequence = 8", id):
        await asyncio.sleep(0.02)


async def idle(stages: Sequence[Stage], number: int) -> dict[str, Any]:
    """Lets the engines take turns with one execution each, and measures what an idle worker is and holds."""
    found: dict[str, list[float]] = defaultdict(list)
    for stage in stages:
        await settle(stage, 1)
    for count in range(number + 2):
        for stage in stages:
            value = await first_step(stage)
            if count > 1:
                found[stage.engine].append(value)
            await asyncio.sleep(0.1 * random())
    result = {}
    for stage in stages:
        [worker] = stage.workers
        result[stage.engine] = {
            "first step p50 ms": round(percentile(found[stage.engine], 0.5), 1),
            "first step p99 ms": round(percentile(found[stage.engine], 0.99), 1),
            "memory MB": round(worker.memory, 1),
            "connections": await stage.connection.fetchval(CONNECTIONS, worker.name),
        }
    return result


async def idle_cost(stage: Stage) -> dict[str, float]:
    """Returns the CPU in percent of one that an idle worker costs, itself and in the servers. No other may run."""
    await settle(stage, 1)
    before, servers = stage.workers[0].cpu, await servers_cpu(stage)
    await asyncio.sleep(5)
    used = sum((await servers_cpu(stage)).values()) - sum(servers.values())
    return {"idle worker %": round(20 * (stage.workers[0].cpu - before), 2), "idle servers %": round(20 * used, 2)}


async def beside_another(stage: Stage) -> dict[str, float]:
    """Returns the seconds that a person's execution waits behind 1,000 of another person, without and with priority."""
    found = {}
    asked = {"behind 1,000": 0, "with priority": 10}
    if stage.engine.startswith(("own", "taskiq")):
        del asked["with priority"]
    for name, priority in asked.items():
        await settle(stage, 1)
        await stage.enqueue(1000)
        await asyncio.sleep(0.5)
        found[f"{name} s"] = round(await first_step(stage, priority) / 1000, 2)
        await stage.completed(120)
    return found


async def enqueueing(stage: Stage, number: int = 100) -> dict[str, float]:
    """Returns the milliseconds of a transaction that queues an execution, at 20 a second, and of one that does not."""
    await settle(stage, 1)
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(number):
        for name in ("with", "without"):
            began = time.perf_counter()
            if name == "with":
                await stage.enqueue(1)
            else:
                async with stage.connection.transaction():
                    [id] = await create(stage.connection, 1)
            found[name].append(1000 * (time.perf_counter() - began))
            if name == "without":
                await stage.connection.execute("DELETE FROM executions WHERE id = $1", id)
            await asyncio.sleep(max(0.0, 0.025 - (time.perf_counter() - began)))
    await stage.completed(60)
    return {
        f"{name} p{round(100 * share)} ms": round(percentile(values, share), 2)
        for name, values in found.items()
        for share in (0.5, 0.99)
    }


async def add_past(stage: Stage) -> None:
    """Adds a million finished executions, and what the engine keeps of so many."""
    await stage.connection.execute(PAST)
    if asked := PAST_OF.get(stage.engine):
        await stage.connection.execute(asked)
    await stage.connection.execute("VACUUM ANALYZE")


def imported(engine: str) -> float:
    """Returns the median CPU seconds of importing the engine, without Python's own start."""

    def cpu(program: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", program], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    modules = module_of(engine).MODULES
    cpu(f"import {modules}")
    return round(statistics.median(cpu(f"import {modules}") - cpu("pass") for _ in range(5)), 2)


def packages(engine: str) -> dict[str, Any]:
    """Returns the number and size of an engine's packages with those that they need, and what its licence is."""
    found: dict[str, int] = {}
    todo = list(module_of(engine).PACKAGES)
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            of = distribution(name)
        except PackageNotFoundError:
            continue  # needed on another platform only
        files = [Path(str(of.locate_file(file))) for file in of.files or []]
        found[name] = sum(path.stat().st_size for path in files if path.is_file() and path.suffix != ".pyc")
        needed = [Requirement(text) for text in of.requires or []]
        todo += [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    main = distribution(module_of(engine).LICENCE_OF)
    return {
        "packages": len(found),
        "their MB": round(sum(found.values()) / 2**20, 1),
        "names": sorted(found),
        "version": main.version,
        "licence": main.metadata.get("License-Expression") or main.metadata.get("License") or _classified(main),
        "python": main.metadata["Requires-Python"],
    }


def _classified(of: Distribution) -> str:
    found = [text.rpartition(" :: ")[2] for text in of.metadata.get_all("Classifier", []) if "License ::" in text]
    return ", ".join(found) or "not stated"
