"""Tests agents with an output schema through each provider's own SDK: by its own means, or by instructions."""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from tests.agents import agent
from tests.conftest import running
from tests.integration.test_agent_replies import send
from tests.integration.test_reasoning import SCHEMA, SCHEMAS, contains, dialect_of, history_of, of_installed
from tests.protocols.gateway import gateway


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


@pytest.mark.parametrize(("model", "fields"), of_installed(SCHEMAS))
async def test_a_provider_is_asked_again(
    app: FastAPI, alice: httpx2.AsyncClient, model: str, fields: Mapping[str, Any] | None
) -> None:
    dialect = dialect_of(model)
    assert dialect
    async with gateway(dialect, model) as (ai, server):
        state = app.state
        state.ai = state.reply_dependencies.ai = state.runner.dependencies.ai = ai
        server.will(
            dialect.speak("```json\n", '{"town": 1}', "\n```"), dialect.speak("```json\n", '{"city": ', '"Oslo"}\n```')
        )
        helper = await agent(alice, "calculate", model_name=model, output_schema=SCHEMA)
        reply = await send(alice, "Where?", agent_id=helper["id"])
    assert (reply["status"], reply["content"]) == ("completed", '{"city":"Oslo"}'), reply
    assert reply["parts"] == [{"type": "data", "data": {"city": "Oslo"}}]
    first, second = (request.body for request in server.requests)
    instructions = json.dumps([first.get("system"), first.get("systemInstruction"), history_of(first)])
    assert ("additionalProperties" in instructions) == (fields is None)
    assert contains(first, fields or {})
    assert "does not fit the output schema" in json.dumps(history_of(second))
    assert "town" in json.dumps(history_of(second))
