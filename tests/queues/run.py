"""Compares queue engines for durable executions: `nox -s queues -- [ENGINE …]` writes docs/queues.json.

Servers of PostgreSQL, NATS with JetStream and RabbitMQ must listen on this machine; the processor time of these servers
is read from /proc. The engines take turns, so that other load on the machine disturbs all of them alike.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import figures
from faults import FAULTS, run_faults
from stage import Stage, staged
from worker import ENGINES

RESULT = Path(__file__).parents[2] / "docs" / "queues.json"
TOGETHER = 4
"""Limits the engines whose faults are tried at once: they mostly wait, but a server has a hundred connections."""
PARTS = ("packages", "faults", "throughput", "waiting", "past")

Found = dict[str, dict[str, Any]]


async def faults(engines: Sequence[str], names: Sequence[str], keep: Path | None) -> Found:
    found: Found = {}

    async def of(engine: str) -> None:
        async with staged(engine) as stage:
            found[engine] = await run_faults(stage, names, keep)

    for start in range(0, len(engines), TOGETHER):
        await asyncio.gather(*(of(engine) for engine in engines[start : start + TOGETHER]))
    return found


async def of_each(stages: Sequence[Stage], measure: Any) -> Found:
    """Measures one engine after the other."""
    found = {}
    for stage in stages:
        found[stage.engine] = await measure(stage)
        stage.stop()
    return found


async def measured(
    engines: Sequence[str], parts: Sequence[str], rounds: int, tried: Sequence[str], keep: Path | None
) -> AsyncIterator[tuple[str, Found]]:
    """Yields each kind of figures as soon as they are measured."""
    if "packages" in parts:
        costs = {engine: {"import CPU s": figures.imported(engine)} for engine in engines}
        yield "packages", {engine: {**figures.packages(engine), **costs[engine]} for engine in engines}
    if "faults" in parts:
        yield "faults", await faults(engines, tried, keep)
    if not set(parts) & {"throughput", "waiting", "past"}:
        return
    async with AsyncExitStack() as stack:
        stages = [await stack.enter_async_context(staged(engine)) for engine in engines]
        if "throughput" in parts:
            yield "throughput", await figures.throughputs(stages, (1, 2, 4), rounds)
        if "waiting" in parts:
            yield "idle", await _idle(stages, 60)
            yield "enqueueing", await of_each(stages, figures.enqueueing)
            yield "beside another", await of_each(stages, figures.beside_another)
            yield "idle cost", await of_each(stages, figures.idle_cost)
        if "past" in parts:
            for stage in stages:
                await figures.add_past(stage)
            yield "past throughput", await figures.throughputs(stages, (2,), rounds)
            yield "past idle", await _idle(stages, 30)


async def _idle(stages: Sequence[Stage], number: int) -> Found:
    found = await figures.idle(stages, number)
    for stage in stages:
        stage.stop()
    return found


def table(name: str, found: Found) -> str:
    """Returns a Markdown table with a row for each figure and a column for each engine."""
    rows = list(dict.fromkeys(key for of in found.values() for key in of))
    lines = [f"| {name} | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    lines += [f"| {row} | {' | '.join(_cell(of.get(row, '')) for of in found.values())} |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_cell(each)}" for key, each in value.items() if key not in ("log", "jobs"))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def save(name: str, found: Found) -> None:
    """Adds to the figures that earlier runs left, which may be of other engines."""
    known: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    for engine, of in found.items():
        known.setdefault(name, {}).setdefault(engine, {}).update({key: _without_log(each) for key, each in of.items()})
    RESULT.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _without_log(value: Any) -> Any:
    """Leaves out what the workers said, which is only printed."""
    return {key: each for key, each in value.items() if key != "log"} if isinstance(value, Mapping) else value


async def main() -> None:
    parser = argparse.ArgumentParser(prog="nox -s queues --")
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help=f"of {', '.join(ENGINES)}; without any, all")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--fault", action="append", choices=list(FAULTS), help="only this fault; may be repeated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="keeps what the workers logged in this folder")
    asked = parser.parse_args()
    engines, parts = asked.engines or list(ENGINES), asked.part or PARTS
    if unknown := set(engines).difference(ENGINES):
        parser.error(f"there is no engine {', '.join(sorted(unknown))}")
    began = time.monotonic()
    tried = asked.fault or list(FAULTS)
    async for name, found in measured(engines, parts, asked.rounds, tried, asked.keep):
        print(f"\n{table(name, found)}", flush=True)
        save(name, found)
    print(f"\nIt took {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    asyncio.run(main())
