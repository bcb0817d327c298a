"""Compares the cost of a project with the least that the same can cost: `uvx nox -s bench` writes docs/benchmarks.json.

Both servers run at once on PostgreSQL, one process each, and take turns. The CPU time of their processes is compared,
which other load on the machine disturbs less than elapsed time.
"""

import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter
from typing import Any

import asyncpg
import copier
import httpx2
import plots
from hammer import cost, cpu, hammer, late, request
from processes import ROOT, environment, succeed
from pwdlib.hashers.argon2 import Argon2Hasher
from servers import Project, Server, all_completed, signed_in
from services import database
from streams import AI_SDK, DEMO_WORDS, LIMITS, OPENAI, beside_native, beside_plain, listen_to_all, serving

ROUNDS = 5
DOCS = ROOT / "docs"
PASSWORD = "a long enough phrase"
LOGIN = f"username=ada%40example.com&password={PASSWORD.replace(' ', '+')}"
SEND, PAGE = "/api/v1/chat/messages", "/api/v1/chat/conversations/{}/messages?limit=50"
UNHINDERED = {
    "DEMO_MODEL_DELAY": "0",
    "EXECUTIONS_PER_MINUTE": "0",
    "MAX_CONCURRENT_EXECUTIONS": "0",
    "LOGIN_ATTEMPTS_PER_MINUTE": "1000000",
    "REQUESTS_PER_MINUTE": "1000000",
    **LIMITS,
}
MESSAGES = """
INSERT INTO messages (id, created_at, conversation_id, position, role, status, content, stop_requested)
SELECT gen_random_uuid(), now(), $1, position, CASE position % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, 'completed',
    'message number ' || position, false
FROM generate_series($2::int, $3::int) position
"""
LIBRARIES = "fastapi, sqlalchemy.ext.asyncio, pydantic_settings, structlog, uvicorn"
SHARE, MULTIPLE = "% of the limit", "times the limit"

Cost = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Figure:
    name: str
    values: Sequence[float]
    unit: str
    wanted: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        spread = f"{min(self.values):.3g} to {max(self.values):.3g}" if len(self.values) > 1 else ""
        return f"| {self.name} | {self.median:.3g} {self.unit} | {spread} | {self.wanted} |"


@dataclass(frozen=True)
class Side:
    """Holds the port, the process and an access token of a server that is measured."""

    port: int
    process_id: int
    token: str = ""

    async def cost(self, path: str, count: int, body: object = None) -> float:
        """Returns the milliseconds of CPU that a request costs the server; one with a body is a POST."""
        asked = request("GET" if body is None else "POST", path, self.token, body)
        return await cost(self.port, self.process_id, asked, count)

    async def stream(self, number: int) -> tuple[float, float]:
        """Returns the CPU milliseconds of each of `number` streams, and the 99th percentile of seconds to a word."""
        before = cpu(self.process_id)
        heard = await listen_to_all(self.port, self.token, number, 0)
        assert all(each.whole for each in heard)
        return 1000 * (cpu(self.process_id) - before) / number, late([each.first for each in heard])


async def shares(mine: Cost, least: Cost) -> list[float]:
    """Returns the least cost in percent of the project's, one value for each round."""
    return [100 * await least() / await mine() for _ in range(ROUNDS)]


async def reads(mine: Side, least: Side, conversation: str) -> list[Figure]:
    page = PAGE.format(conversation)

    async def share(path: str, count: int) -> list[float]:
        return await shares(lambda: mine.cost(path, count), lambda: least.cost(path, count))

    return [
        Figure("health", await share("/health", 8000), SHARE, "33 %"),
        Figure("an authenticated read", await share("/api/v1/users/me", 4000), SHARE, "30 %"),
        Figure("a page of 50 messages", await share(page, 1600), SHARE, "30 %"),
    ]


async def log_ins(mine: Side) -> list[Figure]:
    asked, number, found, slowest = request("POST", "/api/v1/auth/login", body=LOGIN), 40, [], []
    for _ in range(3):
        least = await asyncio.to_thread(hashes, number)
        took, waited = await beside_health(mine.port, asked, number)
        found.append(100 * least / took)
        slowest.append(1000 * waited)
    return [
        Figure("log-ins", found, "% of what two threads hash", "90 %"),
        Figure("health while many log in, 99th percentile", slowest, "ms", "20 ms"),
    ]


async def beside_health(port: int, asked: bytes, number: int) -> tuple[float, float]:
    """Returns the seconds that `number` requests take, and the 99th percentile of the health checks meanwhile."""
    began, checks = perf_counter(), list[float]()
    done = asyncio.create_task(hammer(port, asked, number, 4))
    while not done.done():
        checks += await hammer(port, request("GET", "/health"), 1, 1)
        await asyncio.sleep(0.01)
    await done
    return perf_counter() - began, late(checks)


def hashes(number: int) -> float:
    """Returns the seconds in which two threads verify `number` passwords, with the project's parameters of Argon2."""
    hasher = Argon2Hasher(time_cost=3, memory_cost=65_536, parallelism=1)
    hashed = hasher.hash(PASSWORD)
    began = perf_counter()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(hasher.verify, [PASSWORD] * number, [hashed] * number))
    return perf_counter() - began


async def posts(mine: Side, least: Side, short: str, long: str) -> list[Figure]:
    body, words = {"content": "hello"}, 160

    async def least_cost() -> float:
        return (await least.stream(words))[0]

    growth = list[float]()
    for _ in range(ROUNDS):
        few, many = [await mine.cost(SEND, words, {**body, "conversation_id": id}) for id in (short, long)]
        growth.append(100 * (many / few - 1))
    return [
        Figure(
            "a message and the demo's answer", await shares(lambda: mine.cost(SEND, words, body), least_cost), SHARE
        ),
        Figure("what it costs more in 10,000 messages than in 10", growth, "%", "10 %"),
    ]


async def streams(mine: Side, least: Side, number: int) -> list[Figure]:
    found, firsts = list[float](), list[float]()
    for _ in range(3):
        (here, first), (limit, _) = await mine.stream(number), await least.stream(number)
        found.append(here / limit)
        firsts.append(first)
    return [
        Figure(f"{number} streamed chats at once", found, MULTIPLE),
        Figure(f"their first word, 99th percentile of {number}", firsts, "s", "2.5 s" if number == 500 else ""),
    ]


async def executions(mine: Side, client: httpx2.AsyncClient, url: str) -> list[Figure]:
    agent_id = (await client.post(f"{url}/api/v1/agents", json={"name": "Helper", "model_name": "demo"})).json()["id"]
    asked = request("POST", f"/api/v1/agents/{agent_id}/execute", mine.token, {"input": "Do it."})
    found, number = list[float](), 160
    for done in range(1, 4):
        before = cpu(mine.process_id)
        await hammer(mine.port, asked, number)
        await all_completed(client, url, number * done)
        found.append(1000 * (cpu(mine.process_id) - before) / number)
    beside = await beside_plain(mine.port, mine.process_id, mine.token, agent_id, ROUNDS)
    return [
        Figure("an execution of one step", found, "ms of CPU"),
        Figure("an agent's reply of one step", beside.times, "times a plain reply", "1.6"),
        Figure("its first word, median", [1000 * beside.later], "ms after a plain reply's", "50 ms"),
    ]


async def languages(mine: Side, client: httpx2.AsyncClient, url: str) -> list[Figure]:
    """Measures streams in the languages of other clients, of a model that says each word by itself."""
    made = await client.post(f"{url}/api/v1/agents", json={"name": "Speaker", "model_name": "demo"})
    found = list[Figure]()
    for name, path in (("OpenAI", OPENAI), ("AI SDK", AI_SDK)):
        for kind, agent_id in (("a plain reply", None), ("an agent's reply", made.json()["id"])):
            times = await beside_native((mine.port, mine.process_id, mine.token), agent_id, path, ROUNDS)
            found.append(Figure(f"{kind} as {name} streams it", times, "times the native stream", "1.15"))
    return found


async def memory(project: Project, name: str, wanted: str) -> Figure:
    """Measures the memory of a server that has just started."""
    async with project.serve() as server:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return Figure(f"resident memory, {name}", [resident / 1024], "MB", wanted)


def imports(folder: Path) -> list[Figure]:
    imported(folder, f"app.main, {LIBRARIES}")  # the first import compiles the modules
    mine, least = ([imported(folder, names) for _ in range(ROUNDS)] for names in ("app.main", LIBRARIES))
    return [
        Figure("import of app.main", mine, "s of CPU", "0.8 s"),
        Figure("the same, to the libraries it is made of", [a / b for a, b in zip(mine, least, strict=True)], "times"),
    ]


def imported(folder: Path, names: str) -> float:
    """Returns the CPU seconds of an import in a new process of the project's environment, without Python's own."""
    program = f"import time; began = time.process_time(); import {names}; print(time.process_time() - began)"
    return float(succeed(folder / ".venv/bin/python", "-c", program, cwd=folder, SECRET_KEY="x" * 32))


def rendering(folder: Path) -> Figure:
    copy = ("-m", "copier", "copy", "--quiet", "--defaults", "--vcs-ref=HEAD", str(ROOT))
    return Figure("rendering", [worked(folder, *copy, f"rendered-{n}") for n in range(3)], "s of CPU")


def worked(folder: Path, *arguments: str) -> float:
    """Returns the CPU seconds of a Python process with these arguments."""
    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment(SECRET_KEY="x" * 32), check=True)
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def packages(folder: Path) -> list[Figure]:
    """Counts the packages of a production environment, and adds up their size."""
    succeed("uv", "sync", "--quiet", "--no-dev", cwd=folder)
    [installed] = (folder / ".venv" / "lib").glob("python*/site-packages")
    size = sum(path.stat().st_size for path in installed.rglob("*") if path.is_file() and not path.is_symlink())
    number = len(list(installed.glob("*.dist-info")))
    return [Figure("installed packages", [number], ""), Figure("their size", [size / 2**20], "MB")]


async def conversation(client: httpx2.AsyncClient, server: Server, url: str, length: int) -> str:
    """Creates a conversation with `length` messages, and returns its id."""
    id = (await client.post(f"{server.url}/api/v1/chat/conversations", json={})).json()["id"]
    connection = await asyncpg.connect(url)
    await connection.execute(MESSAGES, id, 1, length)
    await connection.execute("ANALYZE messages")
    await connection.close()
    return id


async def served(project: Project, url: str, reading: Side, posted: Side, streamed: Side) -> list[Figure]:
    async with project.serve(**UNHINDERED) as server, signed_in(server.url) as client:
        mine = side(server, client)
        short, long, page = [await conversation(client, server, url, length) for length in (10, 10_000, 100)]
        figures = [
            *await reads(mine, Side(reading.port, reading.process_id, mine.token), page),
            *await log_ins(mine),
            *await posts(mine, posted, short, long),
            *await executions(mine, client, server.url),
        ]
    async with project.serve(**{**UNHINDERED, "DEMO_MODEL_DELAY": "0.05"}) as server, signed_in(server.url) as client:
        for number in (100, 500):
            figures += await streams(side(server, client), streamed, number)
        figures += await languages(side(server, client), client, server.url)
    return figures


def side(server: Server, client: httpx2.AsyncClient) -> Side:
    token = client.headers["Authorization"].removeprefix("Bearer ")
    return Side(int(server.url.rpartition(":")[2]), server.process.pid, token)


@contextmanager
def rendered(answers: dict[str, Any]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        project, data = Path(folder, "project"), {"database": "postgresql", **answers}
        copier.run_copy(str(ROOT), project, data=data, vcs_ref="HEAD", defaults=True, quiet=True)
        yield project


def measured() -> Iterator[Figure]:
    with ExitStack() as stack:
        folder, small = (stack.enter_context(rendered(answers)) for answers in ({}, {"features": ["chat"]}))
        url, other, limits = (stack.enter_context(database("postgresql")) for _ in range(3))
        project = Project(folder, DATABASE_URL=url)
        words = {"DATABASE_URL": limits, "WORDS": str(DEMO_WORDS)}
        reading = stack.enter_context(serving("reads", **project.settings))
        posted, streamed = (stack.enter_context(serving("chats", **words, PAUSE=pause)) for pause in ("0", "0.05"))
        yield from asyncio.run(served(project, url, Side(*reading), Side(*posted), Side(*streamed)))
        yield asyncio.run(memory(Project(small, DATABASE_URL=other), "chat alone", "110 MB"))
        yield asyncio.run(memory(project, "all features", "140 MB"))
        yield rendering(folder)
        yield from packages(folder)
        yield from imports(folder)


def main() -> None:
    figures = list[Figure]()
    for figure in measured():
        print(figure, flush=True)
        figures.append(figure)
    (DOCS / "benchmarks.json").write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n", encoding="utf-8")
    plots.write(DOCS / "images" / "benchmarks.png", [figure for figure in figures if figure.unit == SHARE])
    page, table = DOCS / "benchmarks.md", "\n".join(map(str, figures))
    text = re.sub(
        r"(?s)(\|---\|---\|---\|---\|\n).*?\n\n", rf"\1{table}\n\n", page.read_text(encoding="utf-8"), count=1
    )
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
