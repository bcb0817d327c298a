"""Tests that all goes on by itself when connections to the database are cut, in each phase of their lives."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest
from proxy import PHASES, Proxy, proxied
from servers import Project, Server
from services import database
from test_faults import Reader, everything
from test_faults_agents import FINAL, SETTINGS, TOOLS, Person, person

pytestmark = [pytest.mark.faults, pytest.mark.slow]
READERS, EXECUTIONS = 20, 10
SECONDS = 8.0
"""Exceeds the time after which a process without a heartbeat is taken for dead."""
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"


@pytest.mark.parametrize(
    "phase", [PHASES[3], *(pytest.param(p, marks=pytest.mark.deep) for p in (*PHASES[:3], *PHASES[4:]))]
)
def test_connections_are_cut(phase: str, folder: Path) -> None:
    async def cut(proxy: Proxy) -> None:
        proxy.cut(phase)
        await asyncio.sleep(SECONDS)
        proxy.phase = None
        assert proxy.cuts

    live_through(folder, cut)


@pytest.mark.deep
def test_the_database_ends_every_connection(folder: Path) -> None:
    async def end_all(proxy: Proxy) -> None:
        connection = await asyncpg.connect(proxy.target.rpartition("/")[0] + "/postgres")
        for _ in range(int(SECONDS / 0.2)):
            await connection.execute(TERMINATE, urlsplit(proxy.target).path[1:])
            await asyncio.sleep(0.2)
        await connection.close()

    live_through(folder, end_all)


def live_through(folder: Path, happen: Callable[[Proxy], Awaitable[None]]) -> None:
    """Reads replies and runs executions meanwhile. Nothing may be lost, and readiness must have failed meanwhile."""
    with database("postgresql") as url:
        asyncio.run(_live_through(Project(folder, DATABASE_URL=url), happen))


async def _live_through(project: Project, happen: Callable[[Proxy], Awaitable[None]]) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied(project.settings["DATABASE_URL"]))
        settings = SETTINGS | {"SHUTDOWN_GRACE_SECONDS": "30", "DATABASE_URL": proxy.url}
        server = await stack.enter_async_context(project.serve(**settings))
        ada = await stack.enter_async_context(person(server.url))
        agent = await ada.agent(*TOOLS)
        readers = [Reader(ada.client, [server.url]) for _ in range(READERS)]
        reading = asyncio.gather(*(reader.read() for reader in readers))
        ids = await ada.execute(agent, EXECUTIONS)
        await asyncio.wait_for(asyncio.gather(*(reader.speaks.wait() for reader in readers)), 60)
        async with watched(ada.client, server) as seen:
            await happen(proxy)
            await becomes_ready(ada.client, server)
            await asyncio.wait_for(reading, 60)
            assert await ada.reached(ids, *FINAL) == {"completed": EXECUTIONS}
        assert httpx2.codes.SERVICE_UNAVAILABLE in seen
        await assert_called_once(ada, ids)
        stored = {reply["id"]: reply for _, reply in await everything(ada.client, server.url)}
        for reader in readers:
            assert reader.end["type"] == "message.completed"
            assert reader.text == reader.end["message"]["content"] == stored[reader.reply_id]["content"]
        assert await server.end(signal.SIGTERM) == 0
        assert "Traceback" not in server.log.result().decode()


async def assert_called_once(person: Person, ids: list[str]) -> None:
    """Asserts that no tool is called again. One that needs the database may fail, of which the model is informed."""
    for told in await asyncio.gather(*map(person.events, ids)):
        assert [event["sequence"] for event in told] == list(range(1, len(told) + 1))
        ended = Counter(event["tool_call_id"] for event in told if event["type"] in {"tool.returned", "tool.failed"})
        assert ended == Counter(event["tool_call_id"] for event in told if event["type"] == "tool.called")
        assert ended == {f"call_{number}": 1 for number in range(1, len(TOOLS) + 1)}
        assert told[-1]["type"] == "execution.completed"


@asynccontextmanager
async def watched(client: httpx2.AsyncClient, server: Server) -> AsyncIterator[set[int]]:
    """Yields the status codes of the readiness check meanwhile."""
    seen = set[int]()

    async def watch() -> None:
        while True:
            seen.add((await client.get(f"{server.url}/health/ready")).status_code)
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()


async def becomes_ready(client: httpx2.AsyncClient, server: Server) -> None:
    async with asyncio.timeout(20):
        while (await client.get(f"{server.url}/health/ready")).status_code != httpx2.codes.OK:
            await asyncio.sleep(0.2)
