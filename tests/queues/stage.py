"""Sets the stage for one engine: a database of its own, worker processes, and a line that can be cut."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from work import SCHEMA, create
from worker import module_of

SERVER = os.environ.get("QUEUES_SERVER", "postgresql://postgres@127.0.0.1:5432")
HERE = Path(__file__).parent
READY = b"Z\0\0\0\5I"
"""Ends the answer to a statement that is not, or no longer, part of a transaction."""
TICKS = os.sysconf("SC_CLK_TCK")
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'bench'"
COUNT = "SELECT status, count(*) FROM executions WHERE status <> 'completed' GROUP BY status"
JOBS = {
    "procrastinate": "SELECT status::text || CASE WHEN worker_id IS NULL THEN '' ELSE ' of ' || worker_id END,"
    " count(*) FROM procrastinate_jobs GROUP BY 1",
    "pgqueuer": "SELECT status::text, count(*) FROM pgqueuer GROUP BY 1",
    "dbos": "SELECT status, count(*) FROM dbos.workflow_status WHERE status <> 'SUCCESS' GROUP BY 1",
}
TABLES = {
    "procrastinate": "procrastinate_jobs, procrastinate_workers, procrastinate_periodic_defers",
    "pgqueuer": "pgqueuer, pgqueuer_log, pgqueuer_statistics",
    "dbos": "dbos.workflow_status, dbos.workflow_input, dbos.workflow_output",
}


@dataclass(frozen=True)
class Process:
    """Holds a worker's process and where its output goes: steps that began, and what it logs."""

    name: str
    popen: subprocess.Popen[bytes]
    output: Path
    log: Path

    @property
    def cpu(self) -> float:
        return cpu_of(self.popen.pid)

    @property
    def memory(self) -> float:
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def steps(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


@dataclass
class Stage:
    engine: str
    url: str
    folder: Path
    connection: asyncpg.Connection
    put: Any
    workers: list[Process] = field(default_factory=list)

    def start(self, name: str, url: str = "") -> Process:
        output, log = self.folder / f"{name}.out", self.folder / f"{name}.log"
        command = [sys.executable, str(HERE / "worker.py"), self.engine, name, url or self.url]
        with output.open("ab") as out, log.open("ab") as err:
            process = Process(
                name, subprocess.Popen(command, stdout=out, stderr=err, cwd=HERE, start_new_session=True), output, log
            )
        self.workers.append(process)
        return process

    async def start_ready(self, name: str, url: str = "") -> Process:
        """Starts a worker, and waits until it has run an execution; no other worker may be idle."""
        process = self.start(name, url)
        await self.enqueue(1)
        await self.completed(30)
        return process

    def stop(self) -> None:
        for worker in self.workers:
            if worker.is_alive:
                worker.kill()
        self.workers.clear()

    async def enqueue(
        self, number: int, priority: int = 0, *, watch: Callable[[Collection[UUID]], None] | None = None, **asked: Any
    ) -> Collection[UUID]:
        """Queues executions in one transaction, or after it where an engine cannot take part in it."""
        late = hasattr(module_of(self.engine), "AFTER_COMMIT")
        async with self.connection.transaction():
            ids = await create(self.connection, number, **asked)
            if watch:
                watch(ids)
            if not late:
                await self.put(self.connection, ids, priority)
        if late:
            await self.put(self.connection, ids, priority)
        return ids

    async def open(self) -> Mapping[str, int]:
        return {row[0]: row[1] for row in await self.connection.fetch(COUNT)}

    async def jobs(self) -> Mapping[str, int]:
        """Returns what the engine's own table still holds."""
        asked = JOBS.get(self.engine.partition("+")[0])
        return {row[0]: row[1] for row in await self.connection.fetch(asked)} if asked else {}

    async def completed(self, seconds: float) -> bool:
        """Waits until nothing is queued or running; returns False when that takes longer."""
        end = time.monotonic() + seconds
        while await self.open():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.05)
        return True

    def steps(self) -> list[dict[str, Any]]:
        """Returns the steps that began in any process, in the order of their time."""
        found = [step for path in self.folder.glob("*.out") for step in map(json.loads, path.read_text().splitlines())]
        return sorted(found, key=lambda step: step["at"])

    async def clear(self) -> None:
        """Forgets what happened so far. No worker may run."""
        for path in self.folder.iterdir():
            path.unlink()
        await self.connection.execute("TRUNCATE executions, events, processes")
        if tables := TABLES.get(self.engine.partition("+")[0]):
            await self.connection.execute(f"TRUNCATE {tables} CASCADE")


@asynccontextmanager
async def staged(engine: str, suffix: str = "") -> AsyncIterator[Stage]:
    """Creates a database for the engine, and drops it in the end with all that the engine left elsewhere."""
    name = f"queues_{engine.replace('+', '_').replace('-', '_')}{suffix}"
    url, module = f"{SERVER}/{name}", module_of(engine)
    server = await asyncpg.connect(f"{SERVER}/postgres")
    await server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await server.execute(f"CREATE DATABASE {name}")
    connection = await asyncpg.connect(f"{url}?application_name=bench")
    stage = None
    try:
        await connection.execute(SCHEMA)
        await module.prepare(engine, url)
        with tempfile.TemporaryDirectory(prefix="queues-") as folder:
            async with module.open_queue(engine, url) as put:
                stage = Stage(engine, url, Path(folder), connection, put)
                try:
                    yield stage
                finally:
                    stage.stop()
    finally:
        await module.drop(engine, url)
        await connection.close()
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()


@dataclass
class Line:
    """Forwards connections to the database server. It can stall without closing them, refuse all, or lose an answer."""

    port: int = 0
    flows: asyncio.Event = field(default_factory=asyncio.Event)
    refuses: bool = False
    lost: UUID | None = None
    """Names an execution; the connection ends that claims it, after the claim is committed and before it is told so."""
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def refuse(self) -> None:
        self.refuses = True
        for writer in self._writers:
            writer.transport.abort()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        await self.flows.wait()
        host, _, port = SERVER.rpartition("@")[2].partition(":")
        there_reader, there = await asyncio.open_connection(host, int(port or 5432))
        self._writers |= {writer, there}
        pumps = (self._pump(reader, there), self._pump(there_reader, writer, loses=True))
        await asyncio.wait([asyncio.create_task(pump) for pump in pumps], return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, there):
            self._writers.discard(end)
            end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, loses: bool = False) -> None:
        claims = False
        try:
            while data := await reader.read(2**16):
                await self.flows.wait()
                claims = claims or (loses and self._names_lost(data))
                if claims and (data.endswith(READY) or b"COMMIT\0" in data):
                    self.lost = None
                    return
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return

    def _names_lost(self, data: bytes) -> bool:
        return self.lost is not None and (self.lost.bytes in data or str(self.lost).encode() in data)


@asynccontextmanager
async def through_a_line(url: str) -> AsyncIterator[tuple[Line, str]]:
    """Yields a line to the database at this address, and the address through it."""
    line = Line()
    line.flows.set()
    async with await asyncio.start_server(line.handle, "127.0.0.1", 0) as server:
        line.port = server.sockets[0].getsockname()[1]
        user = url.partition("://")[2].partition("@")[0]
        yield line, f"postgresql://{user}@127.0.0.1:{line.port}/{url.rpartition('/')[2]}"
        line.flows.set()


def cpu_of(process_id: int) -> float:
    """Returns the CPU seconds of a process."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return sum(int(value) for value in fields[11:13]) / TICKS


async def servers_cpu(stage: Stage) -> dict[str, float]:
    """Returns the CPU seconds of the servers on this machine: of PostgreSQL those that serve this database."""
    used: dict[str, float] = {"postgres": 0, "nats-server": 0, "beam.smp": 0}
    backends = {row[0] for row in await stage.connection.fetch(BACKENDS)}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name = stat.read_text().partition("(")[2].rpartition(")")[0]
            id = int(stat.parent.name)
            if name in used and (name != "postgres" or id in backends):
                used[name] += cpu_of(id)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return used


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
