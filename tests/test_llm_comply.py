"""Lets llm-comply judge a served project: its answers are checked against the schemas of OpenAI's specification."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from processes import ROOT, run
from servers import Project, signed_in

pytestmark = [pytest.mark.clients, pytest.mark.slow]

TOOL = ("uv", "tool", "run", "--quiet", "--from", "llm-comply==0.5.0", "--with", "jsonschema==4.26.0", "llm-comply")
PASSES = {
    "chat-basic-response",
    "chat-system-prompt",
    "chat-multi-turn",
    "chat-streaming-response",
    "chat-streaming-usage",
    "chat-image-input",
    "chat-error-handling",
}
SKIPPED = {"chat-reasoning-summary"}
"""Names what llm-comply asks of OpenAI's own reasoning models alone, with a parameter of another API."""
TOOLS = "chat-tool-calling"
"""Demands a call of a function, which a model may be made to do and an agent may not: see docs/openai.md."""


async def judge(url: str, key: str, model: str) -> Mapping[str, Mapping[str, Any]]:
    """Returns what llm-comply found, by the name of the check."""
    asked = ("--format", "openai-chat", "--base-url", f"{url}/v1", "--api-key", key, "--model", model, "--json")
    done = await asyncio.to_thread(run, *TOOL, *asked, cwd=ROOT)
    assert done.stdout.startswith("{"), done.stdout
    return {result["id"]: result for result in json.loads(done.stdout)["results"]}


async def key_and_agent(client: httpx2.AsyncClient, url: str) -> tuple[str, str]:
    """Returns the key that a front end gets, and an agent as a model."""
    made = await client.post(f"{url}/api/v1/auth/api-keys", json={"name": "judge", "scopes": ["agents", "chat"]})
    agent = await client.post(f"{url}/api/v1/agents", json={"name": "Clerk", "model_name": "demo"})
    return made.json()["key"], f"agent:{agent.json()['id']}"


def test_answers_are_those_of_openai(single: Project) -> None:
    async def check() -> None:
        async with single.serve(DEMO_MODEL_DELAY="0") as server, signed_in(server.url) as client:
            key, agent = await key_and_agent(client, server.url)
            for model, passes in (("demo", {*PASSES, TOOLS}), (agent, PASSES)):
                found = await judge(server.url, key, model)
                assert {id for id, result in found.items() if result["status"] == "passed"} == passes, found
                assert {id for id, result in found.items() if result["status"] == "skipped"} == SKIPPED
                assert found.keys() - passes - SKIPPED <= {TOOLS}
                assert [id for id in passes if found[id].get("warnings")] == []
            assert found[TOOLS]["errors"][0] == "HTTP 400 (expected [200])"

    asyncio.run(check())
