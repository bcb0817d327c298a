"""Tests that agents remember the beginning of long conversations by summaries, beside their own tool calls."""

import re
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select

from app.models.job import BackgroundJob
from app.models.message import Message
from app.services.ai import AssistantMessage, Prompt, ToolResult, UserMessage, estimate_tokens
from tests.agents import Played, agent, calls, play
from tests.chats import SEND, Scripted

MOST = 800
ADD = ("calculate", {"expression": "2+3"})
SEARCH = ("search_conversations", {"words": "needle"})
FILL = "x" * 160


class Facts(Scripted):
    """Sums up what it reads by the facts in it, which are words such as `fact-1`."""

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str]:
        self.hear(prompt)
        yield " ".join(dict.fromkeys(facts(self.heard[-1][0].text)))


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTORY_SUMMARY_MODEL", "demo")
    monkeypatch.setenv("HISTORY_MAX_TOKENS", str(MOST))


@pytest.fixture
def writer(app: FastAPI) -> Facts:
    app.state.history_summaries._model._ai = writer = Facts()
    return writer


def facts(text: str) -> list[str]:
    return re.findall(r"fact-\w+", text)


def after_summary(prompt: Prompt, fact: str) -> UserMessage:
    """Returns the first message of a prompt, which must begin with a summary of this fact."""
    first = prompt.messages[0]
    assert isinstance(first, UserMessage)
    assert first.text.startswith(f"[A summary of the conversation so far, which is no instruction:\n{fact}\n")
    return first


def assert_whole(prompt: Prompt) -> None:
    """Asserts that each call has its result."""
    called = [
        call.id for message in prompt.messages if isinstance(message, AssistantMessage) for call in message.tool_calls
    ]
    assert called == [message.call_id for message in prompt.messages if isinstance(message, ToolResult)]


async def talk(app: FastAPI, client: httpx2.AsyncClient, helper: dict[str, Any], *contents: str) -> str:
    """Has a conversation with an agent, whose jobs run after each turn; returns its id."""
    more: dict[str, Any] = {"agent_id": helper["id"]}
    for content in contents:
        answer = await client.post(SEND, json={"content": content, **more})
        assert (answer.status_code, answer.json()["status"]) == (201, "completed"), answer.text
        more = {"conversation_id": answer.json()["conversation_id"]}
        await app.state.worker.drain()
    return more["conversation_id"]


def adding(prompt: Prompt) -> AssistantMessage | str:
    """Calls the tool in answer to a message, and answers when it has the result."""
    return "It is 5." if isinstance(prompt.messages[-1], ToolResult) else calls(ADD, text="Let me see.")


async def test_an_agent_keeps_a_fact_from_the_beginning(app: FastAPI, alice: httpx2.AsyncClient, writer: Facts) -> None:
    model, helper = play(app, adding), await agent(alice, "calculate")
    await talk(app, alice, helper, f"fact-1 {FILL}", *(f"turn {number} {FILL}" for number in range(25)))
    for prompt in model.prompts:
        assert facts("".join(map(str, prompt.messages))) == ["fact-1"]
        assert_whole(prompt)
    last = model.prompts[-1]
    assert re.search(r"\n\nturn \d+ x+$", after_summary(last, "fact-1").text)
    assert len([message for message in last.messages if isinstance(message, ToolResult)]) > 3
    assert 2 <= len(writer.heard) <= 10
    for [heard] in writer.heard:
        assert estimate_tokens(heard.text) < MOST
        assert "It is 5." in heard.text


async def test_long_results_are_shortened_before_anything_is_summed_up(
    app: FastAPI, alice: httpx2.AsyncClient, writer: Facts
) -> None:
    def searching(prompt: Prompt) -> AssistantMessage | str:
        return "There." if isinstance(prompt.messages[-1], ToolResult) else calls(SEARCH)

    for _ in range(2):
        await alice.post(SEND, json={"content": f"needle {FILL}"})
    model, helper = play(app, searching), await agent(alice, "search_conversations")
    await talk(app, alice, helper, "fact-1", "two", "three", "four", "five")
    assert writer.heard == []
    assert facts(str(model.prompts[-1].messages[0])) == ["fact-1"]
    results = [message.content for message in model.prompts[-2].messages if isinstance(message, ToolResult)]
    shortened = ["[The rest is left out.]" in result for result in results]
    assert (shortened[0], shortened[-1]) == (True, False), list(map(len, results))
    await talk(app, alice, helper, "fact-2", *map(str, range(8)))
    assert writer.heard
    after_summary(model.prompts[-1], "fact-2")
    assert_whole(model.prompts[-1])


async def test_a_summary_comes_alone_where_nothing_else_fits(
    app: FastAPI, alice: httpx2.AsyncClient, writer: Facts
) -> None:
    model, helper = play(app, "z" * 2_800, "z" * 4 * (MOST - 10), "ok"), await agent(alice)
    id = await talk(app, alice, helper, "fact-1", "Write much.")
    assert len(writer.heard) == 1
    answer = await alice.post(SEND, json={"content": "What was it?", "conversation_id": id})
    assert answer.json()["content"] == "ok"
    [asked] = model.prompts[-1].messages  # some models take no two messages of a user in a row
    assert isinstance(asked, UserMessage)
    assert facts(asked.text) == ["fact-1"]
    assert asked.text.endswith("What was it?")
    execution = (await alice.get(f"/api/v1/executions/{answer.json()['execution_id']}")).json()
    assert execution["input"] == "What was it?"


async def test_without_a_model_an_agent_forgets(app: FastAPI, alice: httpx2.AsyncClient, writer: Facts) -> None:
    app.state.chat_settings = app.state.chat_settings.model_copy(update={"history_summary_model": ""})
    model, helper = play(app, adding), await agent(alice, "calculate")
    id = await talk(app, alice, helper, f"fact-1 {FILL}", *(f"turn {number} {FILL}" for number in range(25)))
    assert isinstance(model, Played)
    assert facts("".join(map(str, model.prompts[-1].messages))) == []
    of_it = (Message.conversation_id == UUID(id), Message.summary.is_not(None))
    async with app.state.database.read() as session:
        assert await session.scalar(select(func.count(Message.id)).where(*of_it)) == 0
        named = BackgroundJob.name == "summarize_history"
        assert await session.scalar(select(func.count(BackgroundJob.id)).where(named)) == 0
    assert writer.heard == []
