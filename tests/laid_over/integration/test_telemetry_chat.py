"""Tests telemetry of chat: the user, the outcome and the usage of a reply, but not the text of messages."""

import json
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.chats import STREAM, stream
from tests.collector import Collector, Span, collecting, lines
from tests.conftest import sign_in
from tests.integration.conftest import StartServer
from tests.server import Server

SAID = "said-in-confidence-4721"
OFTEN = {"OTEL_METRIC_EXPORT_INTERVAL": "100", "DEMO_MODEL_DELAY": "0.01"}
"""Keeps each stream open for several exports of metrics."""


async def say_it_through_a_stream_and_a_socket(server: Server) -> dict[str, Any]:
    """Sends a message by each way, and returns the reply to the first."""
    async with httpx2.AsyncClient(base_url=server.url) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        told = await stream(client, SAID)
        token = client.headers["Authorization"].split()[1]
    url, offered = server.url.replace("http", "ws"), [Subprotocol("bearer"), Subprotocol(token)]
    async with connect(f"{url}/api/v1/chat/ws", subprotocols=offered) as socket:
        await socket.send(json.dumps({"type": "send", "content": SAID}))
        while json.loads(await socket.recv())["type"] != "message.completed":
            pass
    return told[-1].data["message"]


def only(spans: list[Span], name: str) -> Span:
    [found] = [span for span in spans if span.name == name]
    return found


def assert_is_one_trace(collector: Collector, reply: dict[str, Any], log: list[dict[str, Any]]) -> None:
    [request] = collector.named(f"POST {STREAM}")
    replied = only(collector.below(request), "reply")
    model = only(collector.below(replied), "model")
    assert {span.name for span in collector.below(request)} >= {"reply", "SELECT", "INSERT"}
    assert {span.name for span in collector.below(replied)} >= {"model", "UPDATE"}
    assert replied.attributes["app.message.id"] == reply["id"]
    assert (model.attributes["app.model.asked"], model.attributes["app.model"]) == ("demo", "demo")
    [line] = [line for line in log if line.get("path") == STREAM]
    assert {span.trace_id for span in (request, replied, model)} == {line["trace_id"]}
    assert line["user_id"] == request.attributes["app.user.id"]


def assert_the_socket_is_one_trace(collector: Collector, log: list[dict[str, Any]]) -> None:
    socket = only(collector.spans, "WS /api/v1/chat/ws")
    replied = only(collector.below(socket), "reply")
    [line] = [line for line in log if line["event"] == "socket"]
    assert line["trace_id"] == socket.trace_id == replied.trace_id
    assert line["user_id"] == socket.attributes["app.user.id"]


def assert_is_counted(collector: Collector) -> None:
    counted = [point for point in collector.points["app.tokens"] if point.attributes["app.token.type"] == "output"]
    assert counted[-1].attributes == {"app.feature": "chat", "app.model": "demo", "app.token.type": "output"}
    assert counted[-1].value == sum(span.attributes["app.tokens.output"] for span in collector.named("model")) > 0
    for metric in ("app.streams", "app.sockets"):
        assert {point.value for point in collector.points[metric]} == {0, 1}, metric


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_reply_is_in_the_trace_of_what_asked_for_it(start_server: StartServer) -> None:
    with collecting() as collector:
        async with start_server(**collector.settings, **OFTEN) as server:
            reply = await say_it_through_a_stream_and_a_socket(server)
            assert await server.stop() == 0
    assert_is_one_trace(collector, reply, lines(server.output))
    assert_the_socket_is_one_trace(collector, lines(server.output))
    assert_is_counted(collector)
    assert not collector.knows(SAID)
    assert SAID not in server.output
