"""Provides what tests of agents share: paths, requests, and scripted models."""

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
    """Returns the ids of these tools, in this order."""
    found = {tool["name"]: tool["id"] for tool in (await client.get(TOOLS, params={"limit": 100})).json()["items"]}
    return [found[name] for name in names]


async def agent(client: httpx2.AsyncClient, *tools: str, **more: Any) -> dict[str, Any]:
    """Creates an agent that may use these tools."""
    body = {"name": "Helper", "model_name": "demo", "tool_ids": await tool_ids(client, *tools), **more}
    answer = await client.post(AGENTS, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def asking(client: httpx2.AsyncClient, tool: str, **more: Any) -> dict[str, Any]:
    """Creates an agent that must ask for approval before it uses this tool."""
    [id] = await tool_ids(client, tool)
    return await agent(client, tool, tool_policies={id: "ask"}, **more)


async def execute(client: httpx2.AsyncClient, agent_id: str, input: str = "go", **headers: str) -> dict[str, Any]:
    answer = await client.post(f"{AGENTS}/{agent_id}/execute", json={"input": input}, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"].endswith(f"{EXECUTIONS}/{answer.json()['id']}")
    return answer.json()


async def events(client: httpx2.AsyncClient, execution_id: str, after: int | None = None) -> list[Event]:
    """Returns all events of an execution after the one with the sequence `after`, up to its last one."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    answer = await client.get(f"{EXECUTIONS}/{execution_id}/events", headers=headers)
    assert answer.status_code == 200, answer.text
    return parse_all(answer.text)


def stored(told: Sequence[Event]) -> list[Event]:
    """Leaves out the events that are only streamed and never stored."""
    return [event for event in told if event.type != "model.delta"]


def types(told: Sequence[Event]) -> list[str]:
    return [event.type for event in stored(told)]


async def read(client: httpx2.AsyncClient, execution_id: str) -> dict[str, Any]:
    answer = await client.get(f"{EXECUTIONS}/{execution_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def reached(client: httpx2.AsyncClient, execution_id: str, *statuses: str) -> dict[str, Any]:
    """Waits until the execution has one of these statuses, and returns it."""
    async with asyncio.timeout(20):
        while (execution := await read(client, execution_id))["status"] not in statuses:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return execution


async def ended(client: httpx2.AsyncClient, execution_id: str) -> dict[str, Any]:
    """Waits for an execution's last event, which costs less than polling, and returns the execution."""
    async with asyncio.timeout(20):
        await events(client, execution_id)
    execution = await read(client, execution_id)
    assert execution["status"] in ("completed", "failed", "cancelled")
    return execution


async def answer(client: httpx2.AsyncClient, execution_id: str, approved: bool, **more: Any) -> httpx2.Response:
    body = {"tool_call_id": "call_1", "approved": approved, **more}
    return await client.post(f"{EXECUTIONS}/{execution_id}/approvals", json=body)


def calls(*made: tuple[str, Mapping[str, Any]], text: str = "") -> AssistantMessage:
    """Makes an assistant message that calls tools, each given as its name and its arguments."""
    named = [ToolCall(f"id-{number}", name, json.dumps(told)) for number, (name, told) in enumerate(made)]
    return AssistantMessage(text, named)


def returned(prompt: Prompt) -> list[str]:
    """Lists the tool results that the prompt holds so far."""
    return [entry.content for entry in prompt.messages if isinstance(entry, ToolResult)]


class Played:
    """Replaces the model gateway with answers that the test scripts; each answer uses 10 input and 5 output tokens."""

    models: Sequence[str] = ("demo",)

    def __init__(self, *plays: Play | Reply) -> None:
        """Takes one answer for each request; the last one answers all requests that follow."""
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
        first, *others = self.message.text.split(" ")
        for piece in (first, *(f" {word}" for word in others)):
            yield piece


class Thinking:
    """Answers a model request only once the test sets `go_on`; sets `begun` when it is asked."""

    def __init__(self, then: Reply = "done") -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self._then = then

    async def __call__(self, prompt: Prompt) -> Reply:
        self.begun.set()
        await self.go_on.wait()
        return self._then


def play(app: FastAPI, *plays: Play | Reply) -> Played:
    """Replaces the model of the application with these scripted answers from now on."""
    model = Played(*plays)
    app.state.runner.dependencies.ai = model
    return model


async def team(client: httpx2.AsyncClient, *tools: str) -> dict[str, Any]:
    """Creates an agent that delegates to another, which may use these tools."""
    helper = await agent(client, *tools, name="The Helper!")
    return await agent(client, name="Chief", subagent_ids=[helper["id"]])


def by_role(chief: Any, helper: Any) -> Any:
    """Makes a model that answers with `chief` for the agent that delegates and with `helper` for its subagent."""

    async def answer(prompt: Prompt) -> Any:
        play = chief if any(tool.name == "ask_the_helper" for tool in prompt.tools) else helper
        return await play(prompt) if isinstance(play, Thinking) else play(prompt)

    return answer


def delegates(prompt: Prompt) -> AssistantMessage | str:
    told = returned(prompt)
    return f"The helper says: {told[0]}" if told else calls(("ask_the_helper", {"task": "help"}))
