"""Chat on a real server process: what an in-process client cannot see."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from app.core.config import Settings
from tests.chats import STREAM, all_messages
from tests.conftest import bearer, client_for, log_in, running, sign_in
from tests.integration.conftest import StartServer
from tests.server import Server
from tests.sse import arriving


@asynccontextmanager
async def signed_in(server: Server) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.url, timeout=30) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        yield client


async def first_word(response: httpx2.Response) -> None:
    async for event in arriving(response):
        if event.type == "message.delta":
            return


async def stored(settings: Settings) -> list[dict[str, Any]]:
    """As the next process finds it."""
    async with running(settings) as app, client_for(app) as client:
        client.headers.update(bearer((await log_in(client, "alice@example.com"))["access_token"]))
        return await all_messages(client)


async def test_words_arrive_while_the_model_speaks_and_also_when_their_reader_leaves(
    start_server: StartServer, settings: Settings
) -> None:
    async with start_server(DEMO_MODEL_DELAY="0.02") as server, signed_in(server) as client:
        async with client.stream("POST", STREAM, json={"content": "hello"}) as response:
            events = [event async for event in arriving(response)]
        assert len(events) > 20
        again = {"content": "hello", "conversation_id": events[0].data["conversation_id"]}
        async with client.stream("POST", STREAM, json=again) as response:
            await first_word(response)
        server.process.send_signal(signal.SIGTERM)  # and again, as an impatient supervisor does
        assert await server.stop() == 0
    reply = (await stored(settings))[-1]
    assert reply["status"] == "completed"
    assert reply["content"].endswith("then start again.")


async def test_a_reply_that_outlives_the_grace_is_interrupted_with_its_text_and_its_reader_hears_so(
    start_server: StartServer, settings: Settings
) -> None:
    async with (
        start_server(DEMO_MODEL_DELAY="0.2", SHUTDOWN_GRACE_SECONDS="0.1") as server,
        signed_in(server) as client,
        client.stream("POST", STREAM, json={"content": "hello"}) as response,
    ):
        stopping, last = None, None
        async for last in arriving(response):
            if last.type == "message.delta" and stopping is None:
                stopping = asyncio.create_task(server.stop())
        assert last
        assert last.type == "message.interrupted"
        assert stopping
        assert await stopping == 0
    _user, reply = await stored(settings)
    assert reply == last.data["message"]
    assert reply["content"].startswith("You")
