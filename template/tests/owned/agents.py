from collections.abc import Sequence
from typing import Any

import httpx2

from tests.agents import agent, asking, execute, reached
from tests.owned.case import Case


async def own_agent(client: httpx2.AsyncClient) -> str:
    return f"/api/v1/agents/{(await agent(client))['id']}"


async def executed(client: httpx2.AsyncClient) -> str:
    return f"{await own_agent(client)}/execute"


async def execution(client: httpx2.AsyncClient) -> str:
    return f"/api/v1/executions/{(await execute(client, (await agent(client))['id']))['id']}"


async def streamed(client: httpx2.AsyncClient) -> str:
    return f"{await execution(client)}/events"


async def cancelled(client: httpx2.AsyncClient) -> str:
    path = f"{await execution(client)}/cancel"
    await client.post(path)
    return path


async def asked(client: httpx2.AsyncClient) -> dict[str, Any]:
    """Creates an execution that waits for an approval."""
    return await reached(client, (await execute(client, (await asking(client, "calculate"))["id"]))["id"], "waiting")


async def approvals(client: httpx2.AsyncClient) -> str:
    return f"/api/v1/executions/{(await asked(client))['id']}/approvals"


async def waiting_reply(client: httpx2.AsyncClient) -> str:
    """Lets an agent write a reply that waits for an approval, which `APPROVED_IN_CHAT` gives."""
    agent_id = (await asking(client, "calculate"))["id"]
    reply = (await client.post("/api/v1/chat/messages", json={"content": "go", "agent_id": agent_id})).json()
    APPROVED_IN_CHAT["tool_call_id"] = reply["parts"][0]["tool_call_id"]
    return f"/api/v1/chat/messages/{reply['id']}/approvals"


async def reply_of_client(client: httpx2.AsyncClient) -> str:
    """Lets an agent write a reply that waits for the result of a client's tool, which `RESULTS` gives."""
    agent_id = (await agent(client))["id"]
    body = {"content": "go", "agent_id": agent_id, "tools": [{"name": "look"}]}
    reply = (await client.post("/api/v1/chat/messages", json=body)).json()
    RESULTS["results"][0]["tool_call_id"] = reply["parts"][0]["tool_call_id"]
    return f"/api/v1/chat/messages/{reply['id']}/tool-results"


async def talk(client: httpx2.AsyncClient) -> tuple[str, Sequence[dict[str, Any]]]:
    execution = await asked(client)
    return f"/api/v1/agents/{execution['agent_id']}/ws", frames(execution["id"])


async def follow(client: httpx2.AsyncClient) -> tuple[str, Sequence[dict[str, Any]]]:
    id = (await asked(client))["id"]
    return f"/api/v1/executions/{id}/ws", frames(id)


def frames(execution_id: str) -> Sequence[dict[str, Any]]:
    return [
        {"type": "answer", "execution_id": execution_id, **APPROVED},
        {"type": "resume", "execution_id": execution_id},
        {"type": "stop", "execution_id": execution_id},
    ]


APPROVED = {"tool_call_id": "call_1", "approved": True}
RESULTS: dict[str, Any] = {"results": [{"tool_call_id": "", "content": "It rains."}]}
APPROVED_IN_CHAT: dict[str, Any] = {"tool_call_id": "", "approved": True}
WRITES = [("post", "/api/v1/agents", {"name": "Another", "model_name": "demo"})]
OF_NOBODY = {"tools"}
READS = {"/api/v1/agents": 3, "/api/v1/agents/{agent_id}": 3}
"""Allows one statement each for agents, the tools they may use, and the agents to which they delegate."""
SOCKETS = {"/api/v1/agents/{agent_id}/ws": talk, "/api/v1/executions/{execution_id}/ws": follow}
CASES = {
    "/api/v1/agents/{agent_id}": Case(own_agent, {"patch": {"name": "Mine now"}}),
    "/api/v1/agents/{agent_id}/execute": Case(executed, {"post": {"input": "go"}}),
    "/api/v1/executions/{execution_id}": Case(execution),
    "/api/v1/executions/{execution_id}/events": Case(streamed),
    "/api/v1/executions/{execution_id}/cancel": Case(cancelled),
    "/api/v1/executions/{execution_id}/approvals": Case(approvals, {"post": APPROVED}),
    "/api/v1/chat/messages/{message_id}/approvals": Case(waiting_reply, {"post": APPROVED_IN_CHAT}),
    "/api/v1/chat/messages/{message_id}/tool-results": Case(reply_of_client, {"post": RESULTS}),
}
