"""Kills, stops and cuts off workers in the middle of executions, and counts what becomes of these."""

import asyncio
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from stage import TABLES, Process, Stage, percentile, through_a_line

NUMBER = 20
PATIENCE = 60.0
SILENCE = 35.0
"""Limits the wait for a next step, which is longer than any engine's time to notice that a worker is dead."""
TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = $1 AND datname = current_database()
"""
TERMINATE_WAITING = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'A' AND datname = current_database() AND wait_event_type = 'Lock'
"""
OPEN = "SELECT id FROM executions WHERE status NOT IN ('completed', 'failed')"
STATES = "SELECT status, count(*) FROM executions GROUP BY status"
SAID = re.compile(r"\d{10}\.\d+ (?!starts)|\d\d:\d\d:\d\d|[A-Za-z_.]+(Error|Exception|Failure)")
VARYING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|0x[0-9a-f]+|\d+(\.\d+)?")

Outcome = dict[str, Any]


async def killed(stage: Stage) -> Outcome:
    """Kills a worker with 20 executions, beside one that is idle."""
    first = await _busy(stage, steps=12)
    second = await _idle(stage)
    first.kill()
    return await _outcome(stage, time.time(), second)


async def paused(stage: Stage) -> Outcome:
    """Pauses a worker for 12 s, in which another takes over. Kills that one when the first has noticed."""
    first = await _busy(stage, steps=30)
    second = await _idle(stage)
    began = time.time()
    first.signal(signal.SIGSTOP)
    await asyncio.sleep(12)
    first.signal(signal.SIGCONT)
    await asyncio.sleep(3)
    before, taken = await stage.jobs(), len({step["id"] for step in second.steps()})
    second.kill()
    found = await _outcome(stage, began, second)
    return {**found, "taken by B": taken, "jobs when B was killed": before}


async def terminated_once(stage: Stage) -> Outcome:
    return await _terminated(stage, 1)


async def terminated_often(stage: Stage) -> Outcome:
    return await _terminated(stage, 15)


async def _terminated(stage: Stage, times: int) -> Outcome:
    """Terminates all connections of a worker that is alone; 8 s later another one starts."""
    first = await _busy(stage, number=NUMBER - 1, steps=8)
    began = time.time()
    ended = 0
    for _ in range(times):
        ended += await stage.connection.fetchval(TERMINATE, "A")
        await asyncio.sleep(0.2)
    since = time.time()
    probes = []
    while time.time() < since + 8:
        probes += await stage.enqueue(1, steps=1, wait=0.01)
        await asyncio.sleep(0.5)
    taken = [step["at"] for step in first.steps() if step["id"] in {str(id) for id in probes}]
    stage.start("B")
    found = await _outcome(stage, began)
    took = f"{min(taken) - since:.1f} s" if taken else "not within 8 s"
    return {**found, "connections ended": ended, "A takes new work after": took, "A lives": first.is_alive}


async def stalled(stage: Stage) -> Outcome:
    """Stalls the line of a worker for 8 s, beside one that is idle."""
    async with through_a_line(stage.url) as (line, url):
        first = await _busy(stage, url=url, steps=24)
        second = await _idle(stage)
        began = time.time()
        line.flows.clear()
        await asyncio.sleep(8)
        line.flows.set()
        found = await _outcome(stage, began, second)
        return {**found, "A lives": first.is_alive}


async def database_gone(stage: Stage) -> Outcome:
    """Takes the database from two workers for 8 s."""
    async with through_a_line(stage.url) as (line, url):
        workers = [stage.start(name, url) for name in "AB"]
        await asyncio.sleep(6)
        ids = await stage.enqueue(NUMBER, steps=8, wait=1.0)
        await _begun(stage, len(ids))
        await asyncio.sleep(1.5)
        owner = {step["id"]: step["worker"] for step in stage.steps()}
        began = time.time()
        line.refuse()
        await asyncio.sleep(8)
        line.refuses = False
        found = await _outcome(stage, began)
        moved = {step["id"] for step in stage.steps() if step["worker"] != owner[step["id"]]}
        return {**found, "went to the other": len(moved), "live": sum(worker.is_alive for worker in workers)}


async def claim_unanswered(stage: Stage) -> Outcome:
    """Loses the answers to five claims of a worker, which are committed. It is alone for 20 s, then another starts."""
    async with through_a_line(stage.url) as (line, url):
        await stage.start_ready("A", url)
        await asyncio.sleep(6)
        began = time.time()
        for _ in range(5):
            await stage.enqueue(1, wait=0.1, watch=lambda ids: setattr(line, "lost", next(iter(ids))))
            end = time.time() + 4
            while line.lost and time.time() < end:
                await asyncio.sleep(0.05)
            await asyncio.sleep(1)
        await asyncio.sleep(20)
        alone, jobs = await stage.open(), await stage.jobs()
        stage.start("B")
        found = await _outcome(stage, began)
        return {**found, "open while A was alone": alone, "jobs then": jobs}


async def end_cut(stage: Stage) -> Outcome:
    """Terminates the connections by which a worker tells the engine that executions have ended."""
    table = TABLES.get(stage.engine.partition("+")[0], "").partition(",")[0]
    if not table:
        return {"not needed": "the last step is the end"}
    await stage.start_ready("A")
    await asyncio.sleep(6)
    began = time.time()
    await stage.enqueue(5, steps=2, wait=1.0)
    await _begun(stage, 5)
    ended = 0
    other = await asyncpg.connect(stage.url)
    async with other.transaction():
        await other.execute(f"SELECT FROM {table} FOR UPDATE")
        end = time.time() + 6
        while time.time() < end:
            ended += await other.fetchval(TERMINATE_WAITING)
            await asyncio.sleep(0.5)
    await other.close()
    found = await _outcome(stage, began)
    await asyncio.sleep(20)
    return {**found, "connections ended": ended, "jobs 20 s later": await stage.jobs()}


async def deadly(stage: Stage) -> Outcome:
    """Queues an execution that kills its worker each time, and starts the worker again each time."""
    await stage.start_ready("A0")
    began, quiet_since, kills = time.time(), time.time(), 0
    await stage.enqueue(1, wait=1.3, kills=True)
    await stage.enqueue(NUMBER, wait=1.0)
    while time.time() < began + 120 and time.time() < quiet_since + SILENCE:
        if not stage.workers[-1].is_alive:
            kills, quiet_since = kills + 1, time.time()
            stage.start(f"A{kills}")
        await asyncio.sleep(0.2)
    left = await stage.connection.fetch("SELECT kills, status, count(*) FROM executions GROUP BY 1, 2")
    kind = {True: "deadly", False: "others"}
    ends = {f"{kind[row['kills']]} {row['status']}": row["count"] for row in left if row["status"] != "completed"}
    others = {"others completed": sum(r["count"] for r in left if not r["kills"] and r["status"] == "completed") - 1}
    seconds = round(quiet_since - began)
    return {"kills": kills, "within s": seconds, **others, **ends, "jobs": await stage.jobs(), "log": _said(stage)}


FAULTS: dict[str, Callable[[Stage], Awaitable[Outcome]]] = {
    "killed": killed,
    "paused": paused,
    "terminated once": terminated_once,
    "terminated often": terminated_often,
    "stalled": stalled,
    "database gone": database_gone,
    "claim unanswered": claim_unanswered,
    "end cut": end_cut,
    "deadly": deadly,
}


async def _busy(stage: Stage, *, number: int = NUMBER, steps: int, url: str = "") -> Process:
    """Starts a worker and gives it executions, whose second step it is in when this returns."""
    first = await stage.start_ready("A", url)
    await asyncio.sleep(6)  # so that it may judge which processes are dead
    await stage.enqueue(number, steps=steps, wait=1.0)
    await _begun(stage, number)
    await asyncio.sleep(1.5)
    return first


async def _idle(stage: Stage) -> Process:
    """Starts a worker that finds nothing to do, and waits until it may judge which processes are dead."""
    second = stage.start("B")
    await asyncio.sleep(7)
    return second


async def _begun(stage: Stage, number: int) -> None:
    end = time.monotonic() + 20
    while len({step["id"] for step in stage.steps()}) < number:
        if time.monotonic() > end:
            raise TimeoutError(f"{stage.engine} began too few executions")
        await asyncio.sleep(0.05)


async def _outcome(stage: Stage, since: float, by: Process | None = None) -> Outcome:
    """Waits until all are completed, or no step begins any more, and counts."""
    while time.time() < since + PATIENCE + 15 and await stage.open():
        if time.time() > max([since, *(step["at"] for step in stage.steps())]) + SILENCE:
            break
        await asyncio.sleep(0.2)
    steps = stage.steps()
    recent = {step["id"] for step in steps if step["at"] > time.time() - SILENCE}
    left = [str(row["id"]) for row in await stage.connection.fetch(OPEN)]
    begun = Counter((step["id"], step["step"]) for step in steps)
    states = {row[0]: row[1] for row in await stage.connection.fetch(STATES)}
    found: Outcome = {
        **states,
        "stuck": len(set(left) - recent),
        "still moving": len(set(left) & recent),
        "steps run again": sum(begun.values()) - len(begun),
        "seconds to the end": round(max([since, *(step["at"] for step in steps)]) - since, 1),
    }
    if by and (late := _takeovers(by, since)):
        found["taken over after"] = [round(percentile(late, share), 1) for share in (0, 0.5, 1)]
    if left or stage.engine.partition("+")[0] in TABLES:
        await asyncio.sleep(0.5)
        found["jobs"] = await stage.jobs()
    found["log"] = _said(stage)
    return found


def _takeovers(by: Process, since: float) -> list[float]:
    """Returns after how many seconds each execution went on in this process."""
    firsts: dict[str, float] = {}
    for step in by.steps():
        firsts.setdefault(step["id"], step["at"] - since)
    return list(firsts.values())


def _said(stage: Stage) -> list[str]:
    """Returns the kinds of lines that the workers logged, each with its number and one example."""
    kinds: Counter[str] = Counter()
    for path in stage.folder.glob("*.log"):
        for line in path.read_text().splitlines():
            if SAID.match(line):
                kinds[VARYING.sub("N", line)[:220]] += 1
    return [f"{number}x {line}" for line, number in kinds.most_common(14)]


async def run_faults(stage: Stage, names: Sequence[str], keep: Path | None = None) -> dict[str, Outcome]:
    """Tries one fault after the other; keeps the workers' output in a folder, if one is named."""
    found: dict[str, Outcome] = {}
    for name in names:
        try:
            found[name] = await FAULTS[name](stage)
        except (TimeoutError, asyncpg.PostgresError, OSError) as error:
            found[name] = {"not measured": repr(error), "log": _said(stage)}
        stage.stop()
        if keep:
            shutil.copytree(stage.folder, keep / stage.engine / name, dirs_exist_ok=True)
        await stage.clear()
        print(f"{time.strftime('%H:%M:%S')} {stage.engine}: {name}: {found[name]}", flush=True)
    return found
