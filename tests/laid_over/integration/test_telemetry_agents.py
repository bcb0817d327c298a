"""Tests telemetry of executions: each is a trace with its steps, and the length of the queue is a metric."""

import asyncio
from uuid import uuid4

import httpx2
import pytest

from tests.agents import agent, ended, execute
from tests.collector import Collector, collecting
from tests.conftest import sign_in
from tests.integration.conftest import StartServer
from tests.integration.test_worker import SHARED, client_of, working
from tests.redis_server import URL

ASKED = "asked-in-confidence-4731"
OFTEN = {"OTEL_METRIC_EXPORT_INTERVAL": "100"}


async def begin(client: httpx2.AsyncClient) -> str:
    client.headers.update(await sign_in(client, "alice@example.com"))
    return (await execute(client, (await agent(client, "calculate"))["id"], f"What is 2 + 3? {ASKED}"))["id"]


async def until_queued(collector: Collector) -> None:
    """Waits for the metric, which is exported only from time to time."""
    async with asyncio.timeout(20):
        while not queued(collector):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def queued(collector: Collector) -> bool:
    waiting = {"app.status": "queued"}
    return any(point.attributes == waiting and point.value == 1 for point in collector.points.get("app.executions", []))


def assert_is_told(collector: Collector, execution_id: str) -> None:
    """Asserts that the execution is one span, with its steps below it."""
    [execution] = collector.named("execution")
    steps = sorted(collector.below(execution), key=collector.spans.index)
    assert [span.name for span in steps if span.name in {"model", "tool"}] == ["model", "tool", "model"]
    assert {span.attributes["app.tool"] for span in steps if span.name == "tool"} == {"calculate"}
    assert {"INSERT", "UPDATE"} <= {span.name for span in steps}
    assert execution.attributes["app.execution.id"] == execution_id
    [asked] = [span for span in collector.spans if span.name.endswith("/execute")]
    assert asked.attributes["app.execution.id"] == execution_id
    assert asked.attributes["app.user.id"] == execution.attributes["app.user.id"]
    tokens = [point for point in collector.points["app.tokens"] if point.attributes["app.token.type"] == "output"]
    assert tokens[-1].attributes["app.feature"] == "agents"
    assert not collector.knows(ASKED)


@pytest.mark.parametrize("database_url", SHARED, indirect=True)
async def test_a_worker_tells_what_it_does_and_a_server_what_waits(
    start_server: StartServer, database_url: str
) -> None:
    shared = {"REDIS_URL": URL, "REDIS_PREFIX": f"test-{uuid4().hex}", "WORKER_IN_SERVER": "false", **OFTEN}
    with collecting() as collector:
        async with start_server(**shared, **collector.settings) as server, client_of(server) as alice:
            execution_id = await begin(alice)
            await until_queued(collector)
            async with working(DATABASE_URL=database_url, **shared, **collector.settings) as worker:
                assert (await ended(alice, execution_id))["status"] == "completed"
                assert await worker.stop() == 0
            assert await server.stop() == 0
    assert_is_told(collector, execution_id)
    assert ASKED not in worker.output
    assert "Traceback" not in worker.output
    assert len({told["service.instance.id"] for told in collector.resources}) == 2
