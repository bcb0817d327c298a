"""Tests servers that are killed, stopped and paused while they stream to many people: no word may be lost."""

import asyncio
import json
import signal
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from servers import Project, signed_in

pytestmark = [pytest.mark.faults, pytest.mark.slow]
REPLIES = 200
MESSAGES = "/api/v1/chat/messages"
LOST = 3
"""Limits the words that a reader saw and nobody stored: those of 0.3 s, and one that is on its way."""
ENDED = {"message.completed", "message.stopped", "message.interrupted", "message.failed"}
BROKEN = (httpx2.TransportError, httpx2.HTTPStatusError)


@dataclass
class Reader:
    """Sends one message and reads all of the reply, whatever happens to servers."""

    client: httpx2.AsyncClient
    servers: list[str]
    """Lists the servers in the order in which they are tried."""
    key: str = field(default_factory=lambda: uuid4().hex)
    reply_id: str = ""
    text: str = ""
    end: dict[str, Any] = field(default_factory=dict[str, Any])
    speaks: asyncio.Event = field(default_factory=asyncio.Event)
    """Signals that enough of the reply has come for some of it to be stored."""
    reconnected: int = 0
    reconnects: asyncio.Event = field(default_factory=asyncio.Event)
    """Signals that a server has broken off the stream, or that the whole reply is read."""

    async def read(self) -> None:
        while not self.end:
            try:
                await (self._resume() if self.reply_id else self._send())
            except BROKEN:
                self.servers = [*self.servers[1:], self.servers[0]]
                self.reconnected += 1
                self.reconnects.set()
                await asyncio.sleep(0.2)
        self.reconnects.set()

    async def _send(self) -> None:
        headers = {"Idempotency-Key": self.key}
        await self._follow("POST", MESSAGES + "/stream", json={"content": "What is up?"}, headers=headers)

    async def _resume(self) -> None:
        headers = {"Last-Event-ID": str(len(self.text))}
        await self._follow("GET", f"{MESSAGES}/{self.reply_id}/stream", headers=headers)

    async def _follow(self, method: str, path: str, **more: Any) -> None:
        async with self.client.stream(method, self.servers[0] + path, **more) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    self._take(json.loads(line.removeprefix("data: ")))

    def _take(self, event: dict[str, Any]) -> None:
        assert not self.end
        if event["type"] == "message.created":
            self.reply_id = event["reply_id"]
        elif event["type"] == "message.delta":
            self.text += event["text"]
            if len(self.text.split()) > LOST:
                self.speaks.set()
        elif event["type"] in ENDED:
            self.end = event
            self.speaks.set()


async def everything(client: httpx2.AsyncClient, url: str) -> list[list[dict[str, Any]]]:
    """Returns the messages of all conversations."""
    conversations: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 100}
    while True:
        page = (await client.get(f"{url}/api/v1/chat/conversations", params=query)).json()
        conversations += page["items"]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    paths = [f"{url}/api/v1/chat/conversations/{found['id']}/messages" for found in conversations]
    return [answer.json()["items"] for answer in await asyncio.gather(*map(client.get, paths))]


async def assert_nothing_lost(client: httpx2.AsyncClient, url: str, readers: list[Reader]) -> Counter[str]:
    """Asserts that what readers saw is stored, and counts the replies of each status."""
    stored = await everything(client, url)
    assert len(stored) == len(readers)
    replies = {reply["id"]: reply for _, reply in stored}
    assert [(m["role"], m["content"], m["status"]) for m, _ in stored] == [("user", "What is up?", "completed")] * len(
        readers
    )
    whole = max((reply["content"] for reply in replies.values()), key=len)
    assert whole.endswith("then start again.")
    for reader in readers:
        reply = replies.pop(reader.reply_id)
        assert reply.items() >= reader.end["message"].items()
        assert reply["status"] in {"completed", "interrupted"}
        assert whole.startswith(reply["content"])
        assert reply["content"]
        # A word may have reached a reader just before its server could pass it on.
        assert whole.startswith(reader.text)
        assert reader.text.startswith(reply["content"])
    assert not replies
    return Counter(reader.end["message"]["status"] for reader in readers)


async def start_reading(client: httpx2.AsyncClient, *servers: list[str]) -> tuple[list[Reader], "asyncio.Future[Any]"]:
    """Starts replies, spread over the servers, and waits until all have begun."""
    readers = [Reader(client, servers[number % len(servers)]) for number in range(REPLIES)]
    reading = asyncio.gather(*(reader.read() for reader in readers))
    await asyncio.wait_for(asyncio.gather(*(reader.speaks.wait() for reader in readers)), 60)
    return readers, reading


def test_a_killed_server_leaves_its_replies_to_the_other(cluster: Project) -> None:
    async def run() -> None:
        async with cluster.serve() as one, cluster.serve() as other, signed_in(one.url) as client:
            there, here = [one.url, other.url], [other.url, one.url]
            readers, reading = await start_reading(client, there, here)
            assert await one.end(signal.SIGKILL) == -signal.SIGKILL
            await asyncio.wait_for(reading, 60)
            statuses = await assert_nothing_lost(client, other.url, readers)
            assert statuses["interrupted"] > 0
            assert statuses["completed"] >= REPLIES / 2
            assert all(reader.reconnected for reader in readers if reader.end["type"] == "message.interrupted")

    asyncio.run(run())


@pytest.mark.deep
def test_a_stopped_server_completes_its_replies(cluster: Project) -> None:
    async def run() -> None:
        async with cluster.serve() as one, cluster.serve() as other, signed_in(one.url) as client:
            readers, reading = await start_reading(client, [one.url, other.url], [other.url, one.url])
            assert await one.end(signal.SIGTERM) == 0
            await asyncio.wait_for(reading, 60)
            assert await assert_nothing_lost(client, other.url, readers) == {"completed": REPLIES}

    asyncio.run(run())


@pytest.mark.deep
def test_a_paused_server_is_taken_for_dead_and_changes_nothing_afterwards(cluster: Project) -> None:
    async def run() -> None:
        async with cluster.serve() as one, cluster.serve() as other, signed_in(one.url) as client:
            readers, reading = await start_reading(client, [one.url, other.url], [other.url, one.url])
            one.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(9)  # a process is taken for dead after 5 s
            one.process.send_signal(signal.SIGCONT)
            await asyncio.wait_for(reading, 60)
            for reader in readers[:20]:  # both servers say the same of it
                again = [Reader(client, [url], reply_id=reader.reply_id) for url in (one.url, other.url)]
                await asyncio.gather(*(reader.read() for reader in again))
                assert [found.end for found in again] == [reader.end] * 2
            stored = await everything(client, one.url)
            assert Counter(reply["status"] for _, reply in stored) == Counter(
                {"interrupted": REPLIES // 2, "completed": REPLIES // 2}
            )

    asyncio.run(run())


def test_the_next_start_settles_what_a_killed_server_leaves_without_redis(alone: Project) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(alone.serve())
            client = await stack.enter_async_context(signed_in(one.url))
            servers = [one.url]
            readers, reading = await start_reading(client, servers)
            await asyncio.sleep(1.5)  # so that each reply has some words
            await one.end(signal.SIGKILL)
            await asyncio.gather(*(reader.reconnects.wait() for reader in readers))
            seen = {reader.reply_id: len(reader.text.split()) for reader in readers}
            next_one = await stack.enter_async_context(alone.serve())
            for reader in readers:
                reader.servers = [next_one.url]
            await asyncio.wait_for(reading, 60)
            for question, reply in await everything(client, next_one.url):
                assert question["status"] == "completed"
                assert reply["status"] in {"completed", "interrupted"}
                assert reply["content"].startswith("You said:")
            assert any(reader.end["type"] == "message.interrupted" for reader in readers)
            kept = {reader.reply_id: len(reader.end["message"]["content"].split()) for reader in readers}
            lost = [max(0, seen[id] - kept[id]) for id in seen]
            print(f"{sum(lost)} of {sum(seen.values())} words were lost, and of one reply at most {max(lost)}")
            assert max(lost) <= LOST
            whole = max((reader.text for reader in readers), key=len)
            for reader in readers:
                assert whole.startswith(reader.text)
                assert whole.startswith(reader.end["message"]["content"])

    asyncio.run(run())


@pytest.mark.deep
def test_several_workers_share_a_port_and_one_redis(cluster: Project) -> None:
    async def run() -> None:
        async with cluster.serve("--workers=2") as server:
            async with signed_in(server.url) as client:
                readers = [Reader(client, [server.url]) for _ in range(20)]
                await asyncio.gather(*(reader.read() for reader in readers))
                again = [Reader(client, [server.url], reply_id=reader.reply_id) for reader in readers]
                await asyncio.gather(*(reader.read() for reader in again))
                assert [reader.end for reader in again] == [reader.end for reader in readers]
                assert await assert_nothing_lost(client, server.url, readers) == {"completed": 20}
            assert await server.end(signal.SIGTERM) == 0

    asyncio.run(run())


@pytest.mark.deep
def test_a_second_server_without_redis_is_refused_in_a_sentence(single: Project) -> None:
    async def run() -> None:
        async with single.serve():
            with pytest.raises(AssertionError, match="Another server process works on this database") as refused:
                async with single.serve():
                    pass
            assert "Traceback" not in str(refused.value)

    asyncio.run(run())
