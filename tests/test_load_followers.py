"""Measures what followers of an execution that waits cost a server, since their streams are idle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
import pytest
from hammer import cpu
from hammer import request as asked
from servers import Project, signed_in

pytestmark = [pytest.mark.deep, pytest.mark.load, pytest.mark.slow]
SECONDS = 30
REQUESTS = 300
SHARE = 0.05
"""Limits the cost of 15 seconds of an idle stream, with one comment, as a part of a request for the execution."""


async def waiting(client: httpx2.AsyncClient, url: str) -> str:
    """Starts an execution that waits for approval, and returns its path."""
    tools = (await client.get(f"{url}/api/v1/tools", params={"limit": 100})).json()["items"]
    [id] = [tool["id"] for tool in tools if tool["name"] == "calculate"]
    body = {"name": "Helper", "model_name": "demo", "tool_ids": [id], "tool_policies": {id: "ask"}}
    agent = (await client.post(f"{url}/api/v1/agents", json=body)).json()
    queued = await client.post(f"{url}/api/v1/agents/{agent['id']}/execute", json={"input": "2 + 3"})
    path = f"/api/v1/executions/{queued.json()['id']}"
    async with asyncio.timeout(30):
        while (await client.get(url + path)).json()["status"] != "waiting":
            await asyncio.sleep(0.1)
    return path


@asynccontextmanager
async def followed(url: str, path: str, token: str) -> AsyncIterator[None]:
    """Opens the execution's event stream, waits until it has begun, and reads it meanwhile."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    writer.write(asked("GET", f"{path}/events", token))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    draining = asyncio.create_task(reader.read())
    try:
        yield
    finally:
        writer.close()
        await asyncio.wait({draining})


async def share(process_id: int) -> float:
    """Returns the part of a core that the process uses, from a moment after now."""
    await asyncio.sleep(3)
    before = cpu(process_id)
    await asyncio.sleep(SECONDS)
    return (cpu(process_id) - before) / SECONDS


async def request_cost(client: httpx2.AsyncClient, url: str, process_id: int) -> float:
    """Returns the CPU seconds of one request."""
    before = cpu(process_id)
    for _ in range(REQUESTS):
        assert (await client.get(url)).status_code == 200
    return (cpu(process_id) - before) / REQUESTS


def test_what_idle_followers_cost(
    cluster: Project, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    number = 9_500 if request.config.option.full else 2_000

    async def run() -> tuple[float, float, float]:
        async with cluster.serve() as server, signed_in(server.url) as client, AsyncExitStack() as stack:
            path, token = await waiting(client, server.url), client.headers["Authorization"].removeprefix("Bearer ")
            cost = await request_cost(client, server.url + path, server.process.pid)
            idle = await share(server.process.pid)
            for _ in range(number // 50):
                followers = [followed(server.url, path, token) for _ in range(50)]
                await asyncio.gather(*map(stack.enter_async_context, followers))
            return cost, idle, await share(server.process.pid)

    cost, idle, busy = asyncio.run(run())
    of_a_request = 15 * (busy - idle) / number / cost
    with capsys.disabled():
        print(
            f"\n{number} idle followers: {busy:.1%} of a core, {idle:.1%} without them; "
            f"15 s of each cost {of_a_request:.1%} of a request, which is {1000 * cost:.1f} ms"
        )
    assert of_a_request <= SHARE
