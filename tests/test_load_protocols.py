"""Measures what streams cost in the languages of other clients, beside the native ones."""

import asyncio
import statistics

import pytest
from servers import Project
from streams import AI_SDK, OPENAI, beside_native
from test_load_agents import SETTINGS, asking

pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.deep]
TIMES = 1.15
"""Limits the CPU of a stream in another language, as a multiple of the native one's."""
DELAY = {"DEMO_MODEL_DELAY": "0.02", "MESSAGES_PER_MINUTE": "0", "MAX_CONCURRENT_REPLIES": "0"}
"""Lets the demo model say each word by itself, so that each is an event."""


@pytest.mark.parametrize("path", [OPENAI, AI_SDK])
@pytest.mark.parametrize("kind", ["plain", "agent"])
def test_a_stream_in_another_language_costs_little_more(cluster: Project, path: str, kind: str) -> None:
    async def run() -> None:
        async with cluster.serve(**SETTINGS | DELAY) as server, asking(server.url) as (client, execute):
            port, token = int(server.url.rpartition(":")[2]), client.headers["Authorization"].removeprefix("Bearer ")
            agent_id = execute.split("/")[-2] if kind == "agent" else None
            found = await beside_native((port, server.process.pid, token), agent_id, path)
            times = statistics.median(found)
            print(f"{path}, {kind}: {times:.2f} times the native stream ({min(found):.2f} to {max(found):.2f})")
            assert times <= TIMES

    asyncio.run(run())
