"""What tests of agents share: paths, requests, and models that do what a test wants."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from fastapi import FastAPI

from app.services.ai import AssistantMessage, ModelUsage, Prompt, ToolCall, ToolResult
from tests.sse import Event, parse_all

AGENTS, EXECUTIONS, TOOLS = "/api/v1/agents", "/api/v1/executions", "/api/v1/tools"
ENDS = {"execution.completed", "execution.failed", "execution.cancelled"}

Reply = AssistantMessage | str | Exception
Play = Callable[[Prompt], Reply | Awaitable[Reply]]


async def tool_ids(client: httpx2.AsyncClient, *names: str) -> list[str]:
    """Of these tools, in this order."""
    found = {tool["name"]: tool["id"] for tool in (await client.get(TOOLS, params={"limit": 100})).json()["items"]}
    return [found[name] for name in names]


async def agent(client: httpx2.AsyncClient, *tools: str, **more: Any) -> dict[str, Any]:
    """A new one that may use these tools."""
    body = {"name": "Helper", "model_name": "demo", "tool_ids": await tool_ids(client, *tools), **more}
    answer = await client.post(AGENTS, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def asking(client: httpx2.AsyncClient, tool: str, **more: Any) -> dict[str, Any]:
    """An agent that must ask before it uses this tool."""
    [id] = await tool_ids(client, tool)
    return await agent(client, tool, tool_policies={id: "ask"}, **more)


async def execute(client: httpx2.AsyncClient, agent_id: str, input: str = "go", **headers: str) -> dict[str, Any]:
    answer = await client.post(f"{AGENTS}/{agent_id}/execute", json={"input": input}, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"].endswith(f"{EXECUTIONS}/{answer.json()['id']}")
    return answer.json()


async def events(client: httpx2.AsyncClient, execution_id: str, after: int | None = None) -> list[Event]:
    """All of them, to the end."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    answer = await client.get(f"{EXECUTIONS}/{execution_id}/events", headers=headers)
    assert answer.status_code == 200, answer.text
    return parse_all(answer.text)


def stored(told: Sequence[Event]) -> list[Event]:
    """Without what is only said live."""
    return [event for event in told if event.type != "model.delta"]


def types(told: Sequence[Event]) -> list[str]:
    return [event.type for event in stored(told)]


async def read(client: httpx2.AsyncClient, execution_id: str) -> dict[str, Any]:
    answer = await client.get(f"{EXECUTIONS}/{execution_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def reached(client: httpx2.AsyncClient, execution_id: str, *statuses: str) -> dict[str, Any]:
    """The execution, once it has one of these."""
    async with asyncio.timeout(20):
        while (execution := await read(client, execution_id))["status"] not in statuses:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return execution


async def ended(client: httpx2.AsyncClient, execution_id: str) -> dict[str, Any]:
    """The execution, after its last event: to follow it costs less than to ask again and again."""
    async with asyncio.timeout(20):
        await events(client, execution_id)
    execution = await read(client, execution_id)
    assert execution["status"] in ("completed", "failed", "cancelled")
    return execution


async def answer(client: httpx2.AsyncClient, execution_id: str, approved: bool, **more: Any) -> httpx2.Response:
    body = {"tool_call_id": "call_1", "approved": approved, **more}
    return await client.post(f"{EXECUTIONS}/{execution_id}/approvals", json=body)


def calls(*made: tuple[str, Mapping[str, Any]], text: str = "") -> AssistantMessage:
    """What a model says that calls tools."""
    named = [ToolCall(f"id-{number}", name, json.dumps(told)) for number, (name, told) in enumerate(made)]
    return AssistantMessage(text, named)


def returned(prompt: Prompt) -> list[str]:
    """What the model was told by tools so far."""
    return [entry.content for entry in prompt.messages if isinstance(entry, ToolResult)]


class Played:
    """A model that answers as the test plays it. Each answer costs 10 tokens in and 5 out."""

    models: Sequence[str] = ("demo",)

    def __init__(self, *plays: Play | Reply) -> None:
        """One for each request, the last one for all that follow."""
        self.plays = list(plays)
        self.prompts: list[Prompt] = []

    def check(self, model: str) -> None:
        assert model in self.models

    @asynccontextmanager
    async def ask(self, prompt: Prompt) -> AsyncGenerator["PlayedStream"]:
        self.prompts.append(prompt)
        yield PlayedStream(self.plays.pop(0) if len(self.plays) > 1 else self.plays[0], prompt)


class PlayedStream:
    usage = ModelUsage("demo", 10, 5)

    def __init__(self, play: Play | Reply, prompt: Prompt) -> None:
        self.message = AssistantMessage()
        self._play = play
        self._prompt = prompt

    async def __aiter__(self) -> AsyncGenerator[str]:
        said = self._play(self._prompt) if callable(self._play) else self._play
        reply = await said if isinstance(said, Awaitable) else said
        if isinstance(reply, Exception):
            raise reply
        self.message = AssistantMessage(reply) if isinstance(reply, str) else reply
        for word in self.message.text.split(" "):
            yield word


class Thinking:
    """A play that thinks until it may go on."""

    def __init__(self, then: Reply = "done") -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self._then = then

    async def __call__(self, prompt: Prompt) -> Reply:
        self.begun.set()
        await self.go_on.wait()
        return self._then


def play(app: FastAPI, *plays: Play | Reply) -> Played:
    """From now on this is the model of the application."""
    model = Played(*plays)
    app.state.worker.dependencies.ai = model
    return model


async def team(client: httpx2.AsyncClient, *tools: str) -> dict[str, Any]:
    """An agent that delegates to another with these tools."""
    helper = await agent(client, *tools, name="The Helper!")
    return await agent(client, name="Chief", subagent_ids=[helper["id"]])


def by_role(chief: Any, helper: Any) -> Any:
    """A model that answers one way for the agent that delegates, and another way for the one that it asks."""

    async def answer(prompt: Prompt) -> Any:
        play = chief if any(tool.name == "ask_the_helper" for tool in prompt.tools) else helper
        return await play(prompt) if isinstance(play, Thinking) else play(prompt)

    return answer


def delegates(prompt: Prompt) -> AssistantMessage | str:
    told = returned(prompt)
    return f"The helper says: {told[0]}" if told else calls(("ask_the_helper", {"task": "help"}))
