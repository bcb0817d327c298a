"""Tests chat on a real server process, where an in-process client cannot see enough."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2

from app.core.config import Settings
from tests.chats import SEND, STREAM, all_messages, until
from tests.conftest import bearer, client_for, log_in, running, sign_in
from tests.integration.conftest import StartServer
from tests.server import Server
from tests.sockets import served
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
    """Returns the messages as the next process reads them."""
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
        server.process.send_signal(signal.SIGTERM)  # sent twice, as an impatient supervisor does
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
    assert reply.items() >= last.data["message"].items()
    assert reply["content"].startswith("You")


async def test_streams_and_sockets_are_counted_together_and_until_they_are_left(start_server: StartServer) -> None:
    body = {"content": "hello"}
    async with start_server(DEMO_MODEL_DELAY="0.5", SOCKETS_PER_USER="2") as server, signed_in(server) as client:
        async with client.stream("POST", STREAM, json=body) as response:
            heard = arriving(response)
            reply_id = (await anext(heard)).data["reply_id"]
            async with served(server.url, "/api/v1/chat/ws", client) as connection:
                await connection.send('{"type": "ping"}')
                assert await connection.recv() == '{"type":"pong"}'
                for refused in (await client.post(STREAM, json=body), await client.get(f"{SEND}/{reply_id}/stream")):
                    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_at_once")

        async def all_are_left() -> bool:
            async with AsyncExitStack() as stack:
                paths = [f"{SEND}/{reply_id}/stream"] * 2
                answers = [await stack.enter_async_context(client.stream("GET", path)) for path in paths]
                return all(answer.status_code == 200 for answer in answers)

        await asyncio.wait_for(until(all_are_left), 30)
        assert len(await all_messages(client)) == 2  # what was refused was not stored
