"""Tests telemetry of requests to providers: never a key, and the text of messages only if a setting allows it."""

import os

import httpx2
import pytest

from tests.chats import SEND
from tests.collector import collecting
from tests.conftest import sign_in
from tests.integration.conftest import StartServer
from tests.protocols.dialect import KEY, SECRET, Dialect
from tests.protocols.server import serve
from tests.protocols.spoken import INSTALLED


def pointed_at(dialect: Dialect, url: str) -> dict[str, str]:
    """Returns the settings with which a process finds this server in place of its provider."""
    before = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        dialect.point_at(url, patch)
        return {"AI_MODEL": dialect.model, **dict(os.environ.items() - before.items())}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("content", ["false", "true"])
@pytest.mark.parametrize("dialect", INSTALLED[:1], ids=lambda dialect: dialect.model)
async def test_requests_to_a_provider(start_server: StartServer, dialect: Dialect, content: str) -> None:
    with collecting() as collector:
        async with serve() as provider:
            mine = {**pointed_at(dialect, provider.url), "TELEMETRY_CONTENT": content, "AI_MAX_RETRIES": "0"}
            async with start_server(**mine, **collector.settings) as server:
                async with httpx2.AsyncClient(base_url=server.url) as client:
                    client.headers.update(await sign_in(client, "alice@example.com"))
                    provider.will(dialect.speak("Yes, ", f"{SECRET} is."))
                    said = await client.post(SEND, json={"content": f"Do you know {SECRET}?"})
                    [request] = provider.requests
                    provider.will(dialect.broken)
                    await client.post(SEND, json={"content": f"Do you know {SECRET}?"})
                assert await server.stop() == 0
    assert said.json()["content"] == f"Yes, {SECRET} is."
    answered, failed = collector.named("model")
    [tried] = [span for span in collector.below(answered) if span.name.startswith("chat ")]
    assert tried.attributes["gen_ai.usage.output_tokens"] == answered.attributes["app.tokens.output"]
    sent, _failed = collector.named("POST")
    assert (sent.trace_id, sent.attributes["server.address"]) == (tried.trace_id, "127.0.0.1")
    assert "traceparent" not in request.headers
    assert failed.attributes["error.type"] == "model_unavailable"
    assert SECRET not in server.output
    assert not collector.knows(KEY)
    is_told = {span.name.split()[0] for span in collector.spans if SECRET in span.text}
    assert is_told == ({"chat"} if content == "true" else set())
    assert collector.knows(SECRET) == (content == "true")
