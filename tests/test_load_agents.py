"""Measures how fast a server queues executions, how many of them one worker runs, and what agents' replies cost."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter

import asyncpg
import httpx2
import pytest
from hammer import cpu
from servers import Project, all_completed, signed_in
from streams import beside_plain
from test_load import CONNECTIONS, most_connections

pytestmark = [pytest.mark.load, pytest.mark.slow]
A_SECOND, SECONDS = 20, 20
WORK = 600
SETTINGS = {
    "DEMO_MODEL_DELAY": "0",
    "EXECUTIONS_PER_MINUTE": "0",
    "MAX_CONCURRENT_EXECUTIONS": "0",
}
BODY = {"input": "Do it."}
TIMES, LATER = 1.6, 0.05
"""Limits what an agent's reply of one step costs, as a multiple of a plain one, and the seconds its first word lags."""


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[tuple[httpx2.AsyncClient, str]]:
    """Yields the client of somebody with an agent, and the address that executes the agent."""
    async with signed_in(url) as client:
        made = await client.post(f"{url}/api/v1/agents", json={"name": "Helper", "model_name": "demo"})
        yield client, f"{url}/api/v1/agents/{made.json()['id']}/execute"


async def execute(client: httpx2.AsyncClient, path: str) -> float:
    """Returns the milliseconds until an execution is queued."""
    began = perf_counter()
    assert (await client.post(path, json=BODY)).status_code == 202
    return 1000 * (perf_counter() - began)


async def steadily(client: httpx2.AsyncClient, path: str) -> list[float]:
    """Starts A_SECOND executions a second, however long they take, and returns the milliseconds of each."""
    asked: list[asyncio.Task[float]] = []
    began = perf_counter()
    for number in range(A_SECOND * SECONDS):
        await asyncio.sleep(max(0.0, began + number / A_SECOND - perf_counter()))
        asked.append(asyncio.create_task(execute(client, path)))
    return await asyncio.gather(*asked)


def told(kind: str, milliseconds: list[float]) -> str:
    percentiles = statistics.quantiles(milliseconds, n=100)
    return f"execute, {A_SECOND} a second, {kind}: p50 {percentiles[49]:.1f} ms, p99 {percentiles[98]:.1f} ms"


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["single", "cluster"])
def test_executions_are_taken_steadily(kind: str, request: pytest.FixtureRequest) -> None:
    project: Project = request.getfixturevalue(kind)

    async def run() -> None:
        async with project.serve(**SETTINGS) as server, asking(server.url) as (client, path):
            done = asyncio.Event()
            watching = asyncio.create_task(most_connections(project.settings["DATABASE_URL"], done))
            milliseconds = await steadily(client, path)
            await all_completed(client, server.url, A_SECOND * SECONDS)
            done.set()
            assert await watching <= CONNECTIONS
            print(told({"single": "SQLite", "cluster": "PostgreSQL"}[kind], milliseconds))

    asyncio.run(run())


async def span(url: str) -> float:
    """Returns the seconds from the first start to the last end of an execution."""
    connection = await asyncpg.connect(url)
    seconds = await connection.fetchval(
        "SELECT extract(epoch FROM max(finished_at) - min(started_at))::float FROM executions"
    )
    await connection.close()
    return seconds


def test_one_worker_does_many_a_second(cluster: Project) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(cluster.serve(**SETTINGS, WORKER_IN_SERVER="false"))
            client, path = await stack.enter_async_context(asking(server.url))
            for _ in range(WORK // 20):
                await asyncio.gather(*(execute(client, path) for _ in range(20)))
            worker = await stack.enter_async_context(cluster.work(**SETTINGS))
            before = cpu(worker.process.pid)
            await all_completed(client, server.url, WORK)
            used = cpu(worker.process.pid) - before
            rate = WORK / await span(cluster.settings["DATABASE_URL"])
            print(f"one worker: {rate:.1f} executions of one step a second, {1000 * used / WORK:.1f} ms of CPU each")

    asyncio.run(run())


@pytest.mark.deep
def test_a_reply_without_tools_costs_little_more_than_a_plain_one(cluster: Project) -> None:
    async def run() -> None:
        async with cluster.serve(**SETTINGS) as server, asking(server.url) as (client, path):
            port, token = int(server.url.rpartition(":")[2]), client.headers["Authorization"].removeprefix("Bearer ")
            found = await beside_plain(port, server.process.pid, token, path.split("/")[-2])
            times = statistics.median(found.times)
            spread = f"{min(found.times):.2f} to {max(found.times):.2f}"
            print(f"an agent's reply: {times:.2f} times the CPU of a plain one ({spread}),")
            print(f"its first word {1000 * found.later:.1f} ms later")
            assert times <= TIMES
            assert found.later <= LATER

    asyncio.run(run())
