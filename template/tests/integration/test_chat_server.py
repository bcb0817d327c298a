"""Chat on a real server process: what an in-process client cannot see."""

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import pytest

from tests.conftest import ROOT, environment, sign_in
from tests.server import Server, started
from tests.sse import arriving

STREAM = "/api/v1/chat/messages/stream"

StartServer = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
def start_server(database_url: str) -> StartServer:
    @asynccontextmanager
    async def start(**settings: str) -> AsyncGenerator[Server]:
        command = [sys.executable, "-m", "app.cli", "serve"]
        async with started(command, ROOT, environment(DATABASE_URL=database_url, **settings)) as server:
            await server.says("Uvicorn running")
            yield server

    return start


@asynccontextmanager
async def signed_in(server: Server) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.url, timeout=30) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        yield client


async def first_word(response: httpx2.Response) -> None:
    async for event in arriving(response):
        if event.type == "message.delta":
            return


async def stored(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    [conversation] = (await client.get("/api/v1/chat/conversations")).json()["items"]
    return (await client.get(f"/api/v1/chat/conversations/{conversation['id']}/messages")).json()["items"]


async def test_words_arrive_while_the_model_speaks(start_server: StartServer) -> None:
    async with start_server(DEMO_MODEL_DELAY="0.02") as server, signed_in(server) as client:
        async with client.stream("POST", STREAM, json={"content": "hello"}) as response:
            events = [event async for event in arriving(response)]
        assert len(events) > 20
        assert await server.stop() == 0


async def test_a_reply_goes_on_when_its_reader_leaves(start_server: StartServer) -> None:
    async with start_server(DEMO_MODEL_DELAY="0.02") as server, signed_in(server) as client:
        async with client.stream("POST", STREAM, json={"content": "hello"}) as response:
            await first_word(response)
        assert await server.stop() == 0
    async with start_server() as server, signed_in(server) as client:
        _user, reply = await stored(client)
        assert reply["status"] == "completed"
        assert reply["content"].endswith("then start again.")


async def test_a_reply_that_outlives_the_grace_is_interrupted_with_its_text(start_server: StartServer) -> None:
    async with (
        start_server(DEMO_MODEL_DELAY="0.2", SHUTDOWN_GRACE_SECONDS="0.1") as server,
        signed_in(server) as client,
        client.stream("POST", STREAM, json={"content": "hello"}) as response,
    ):
        await first_word(response)
        assert await server.stop() == 0
    async with start_server() as server, signed_in(server) as client:
        _user, reply = await stored(client)
        assert reply["status"] == "interrupted"
        assert reply["content"].startswith("You said:")
