"""Tests the command `worker`, and processes that are stopped or killed while they run executions."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.agents import EXECUTIONS, agent, ended, events, execute, stored, types
from tests.conftest import BACKENDS, ROOT, environment, sign_in
from tests.integration.conftest import Project, StartServer
from tests.redis_server import URL, reachable
from tests.server import Server, ran, started

SHARED = ["postgresql"] if "postgresql" in BACKENDS and reachable() else []
"""Names the database on which several servers and workers may run."""
SLOW = {"DEMO_MODEL_DELAY": "1"}
"""Makes a tool call take a second, and the reply after it most of a minute."""


@asynccontextmanager
async def working(**settings: str) -> AsyncGenerator[Server]:
    command = [sys.executable, "-m", "app.cli", "worker"]
    async with ran(command, ROOT, environment(**settings)) as worker:
        await worker.says("Working.")
        yield worker


def client_of(server: Server, **headers: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=30)


async def until_told(client: httpx2.AsyncClient, execution_id: str, kind: str) -> None:
    """Reads the stream until it sends this event."""
    async with client.stream("GET", f"{EXECUTIONS}/{execution_id}/events") as answer:
        async for line in answer.aiter_lines():
            if line == f"event: {kind}":
                return
    pytest.fail(f"the stream ended without {kind}")


async def assert_nothing_was_repeated(client: httpx2.AsyncClient, execution_id: str) -> None:
    told = stored(await events(client, execution_id))
    assert [event.id for event in told] == list(range(1, len(told) + 1))
    assert [kind for kind in types(told) if kind.startswith("tool.")] == ["tool.called", "tool.returned"]
    assert types(told).count("model.completed") == 2


@pytest.mark.parametrize("database_url", SHARED, indirect=True)
async def test_workers_run_what_a_server_queues_and_leave_in_good_order(
    start_server: StartServer, database_url: str
) -> None:
    shared = {"REDIS_URL": URL, "REDIS_PREFIX": f"test-{uuid4().hex}", "WORKER_IN_SERVER": "false"}
    mine = {"DATABASE_URL": database_url, "SHUTDOWN_GRACE_SECONDS": "0", **shared}
    async with start_server(**shared) as server, client_of(server) as alice, working(**mine, **SLOW) as first:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        queued = await execute(alice, (await agent(alice, "calculate"))["id"])
        async with working(**mine, WORKER_CONCURRENCY="1") as second:
            await until_told(alice, queued["id"], "tool.returned")
            await asyncio.gather(*[stopped(first, signal.SIGTERM), ended(alice, queued["id"])])
            await stopped(second, signal.SIGINT)
        await assert_nothing_was_repeated(alice, queued["id"])


async def stopped(server: Server, number: signal.Signals) -> None:
    assert await server.stop(number) == 0, server.output
    assert "Traceback" not in server.output


async def test_on_sqlite_a_killed_server_goes_on_when_it_starts_again(prepared: Project) -> None:
    async with started(prepared.command("serve"), prepared.folder, prepared.environment(**SLOW)) as server:
        await server.says("Uvicorn running")
        async with client_of(server) as alice:
            headers = await sign_in(alice, "alice@example.com")
            alice.headers.update(headers)
            queued = await execute(alice, (await agent(alice, "calculate"))["id"])
            await until_told(alice, queued["id"], "tool.returned")
            refused = await asyncio.to_thread(prepared.fail, "worker")
            assert refused.startswith("Another server process works on this database, and the two cannot share a file")
        assert await server.stop(signal.SIGKILL) == -signal.SIGKILL
    async with started(prepared.command("serve"), prepared.folder, prepared.environment()) as server:
        await server.says("Uvicorn running")
        async with client_of(server, **headers) as alice:
            done: dict[str, Any] = await ended(alice, queued["id"])
            assert done["status"] == "completed"
            await assert_nothing_was_repeated(alice, queued["id"])
        await stopped(server, signal.SIGTERM)


async def test_on_sqlite_a_second_worker_is_refused(prepared: Project) -> None:
    redis = {"REDIS_URL": URL} if reachable() else {}
    mine = {"DATABASE_URL": f"sqlite:///{prepared.folder}/app.db", **redis}
    async with working(**mine) as worker:
        refused = await asyncio.to_thread(prepared.fail, "worker", **redis)
        assert refused.startswith("Another server process works on this database, and the two cannot share a file")
        await stopped(worker, signal.SIGTERM)
