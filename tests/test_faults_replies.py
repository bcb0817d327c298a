"""Tests replies of agents while servers and workers are killed, stopped and cut off: no call twice, no word wrong."""

import asyncio
import json
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from laid_over.redis_server import OwnServer
from proxy import Proxy, proxied
from servers import Project
from services import database
from test_faults import BROKEN, ENDED, MESSAGES
from test_faults_agents import APART, SETTINGS, TOOLS, Person, person
from test_lost_database import SECONDS, TERMINATE

pytestmark = [pytest.mark.faults, pytest.mark.slow]
KILLS, SEED = 10, 11
SLOW = {"DEMO_MODEL_DELAY": "0.1"}
"""Makes a reply with three tools last about six seconds."""
LONG = {"DEMO_MODEL_DELAY": "0.5"}
Texts = dict[int, str]


@dataclass
class Follower:
    """Sends one message to an agent and follows the reply, from server to server, as a client does."""

    client: httpx2.AsyncClient
    servers: list[str]
    agent_id: str
    tools: Sequence[dict[str, Any]] = ()
    """Lists the tools that the client runs."""
    reply: dict[str, Any] = field(default_factory=dict[str, Any])
    last_id: str = ""
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    """Holds all events that came, each with its id."""
    texts: Texts = field(default_factory=Texts)
    taken_back: int = 0
    """Counts how often text was taken back that had come."""
    end: dict[str, Any] = field(default_factory=dict[str, Any])
    speaks: asyncio.Event = field(default_factory=asyncio.Event)
    """Signals that text has come."""
    asks: asyncio.Event = field(default_factory=asyncio.Event)
    """Signals that a call waits for a person or for the client."""

    async def begin(self, question: str = "What is 2 + 3?") -> None:
        """Stores the message, whose reply another connection follows."""
        key = {"Idempotency-Key": uuid4().hex}
        body = {"content": question, "agent_id": self.agent_id, "tools": self.tools}
        path = f"{self.servers[0]}{MESSAGES}/stream"
        async with self.client.stream("POST", path, json=body, headers=key) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    created = json.loads(line.removeprefix("data: "))
                    self.reply = {"id": created["reply_id"], "conversation_id": created["conversation_id"]}
                    return

    async def read(self) -> None:
        """Follows the reply to its end, whatever happens to servers."""
        while not self.end:
            try:
                await self._follow()
            except BROKEN:
                self.servers = [*self.servers[1:], self.servers[0]]
            if not self.end:
                await asyncio.sleep(0.1)
        self.speaks.set()

    async def _follow(self) -> None:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        path = f"{self.servers[0]}{MESSAGES}/{self.reply['id']}/stream"
        async with self.client.stream("GET", path, headers=headers) as response:
            response.raise_for_status()
            fields = dict[str, str]()
            async for line in response.aiter_lines():
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    self._take(fields["id"], json.loads(fields["data"]))
                    fields = {}

    def _take(self, id: str, event: dict[str, Any]) -> None:
        assert not self.end
        self.last_id = id
        self.told.append((id, event))
        match event["type"]:
            case "message.delta":
                self.texts[event["part"]] = self.texts.get(event["part"], "") + event["text"]
                self.speaks.set()
            case "message.rewound":
                self.taken_back += any(part >= event["part"] for part in self.texts)
                self.texts = {part: text for part, text in self.texts.items() if part < event["part"]}
            case "approval.requested" | "result.requested":
                self.asks.set()
            case kind if kind in ENDED:
                self.end = event
            case _:
                pass

    def of_type(self, *kinds: str) -> list[dict[str, Any]]:
        return [event for _id, event in self.told if event["type"] in kinds]


async def stored(ada: Person, follower: Follower) -> dict[str, Any]:
    """Returns the reply as it is listed."""
    listed = await ada.ask("GET", f"chat/conversations/{follower.reply['conversation_id']}/messages")
    question, reply = listed["items"]
    assert (question["role"], reply["id"]) == ("user", follower.reply["id"])
    return reply


async def assert_whole(ada: Person, follower: Follower) -> None:
    """Asserts that a reply is complete, each of its calls was made once, and its reader has exactly its text."""
    reply = await stored(ada, follower)
    assert follower.end["type"] == "message.completed", follower.end
    assert reply["status"] == "completed"
    assert reply.items() >= follower.end["message"].items()
    calls = [part for part in reply["parts"] if part["type"] == "tool_call"]
    assert sorted((call["name"], call["state"]) for call in calls) == sorted((name, "returned") for name in TOOLS)
    assert reply["content"].endswith("the key of its provider.")
    assert follower.texts == {n: part["text"] for n, part in enumerate(reply["parts"]) if part["type"] == "text"}
    for kind in ("tool.called", "tool.returned"):
        ids = [event["tool_call_id"] for event in follower.of_type(kind)]
        assert ids == [call["tool_call_id"] for call in calls], kind


async def follow_all(ada: Person, agent_id: str, servers: Sequence[str], count: int = 1) -> list[Follower]:
    """Begins replies at the first server, which are read at the others."""
    followers = [Follower(ada.client, [servers[0]], agent_id) for _ in range(count)]
    await asyncio.gather(*(follower.begin() for follower in followers))
    for follower in followers:
        follower.servers = list(servers[1:] or servers)
    return followers


async def read_all(followers: Sequence[Follower], seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        await asyncio.gather(*(follower.read() for follower in followers))


async def killed_at_random(stack: AsyncExitStack, cluster: Project, number: signal.Signals) -> None:
    """Ends the process that works at random moments of a reply, each time once it has a successor."""
    chance = random.Random(SEED)
    server = await stack.enter_async_context(cluster.serve(**APART))
    ada = await stack.enter_async_context(person(server.url))
    agent, taken_back = await ada.agent(*TOOLS), 0
    worker = await stack.enter_async_context(cluster.work(**SETTINGS))
    for kill in range(KILLS):
        [follower] = await follow_all(ada, agent, [server.url])
        reading = asyncio.create_task(read_all([follower]))
        if kill % 2:  # chance alone would seldom hit the words, of which the reader has some then
            await asyncio.wait_for(follower.speaks.wait(), 60)
        starting = asyncio.create_task(stack.enter_async_context(cluster.work(**SETTINGS)))
        await asyncio.sleep(chance.uniform(0, 1.2))
        saw_text = bool(follower.texts) and not follower.end
        await worker.end(number)
        worker = await starting
        await reading
        await assert_whole(ada, follower)
        assert follower.taken_back or not saw_text, "what was asked again was not taken back"
        taken_back += follower.taken_back
    assert taken_back
    assert await ada.notes() == KILLS


@pytest.mark.deep
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_at_random_moments(cluster: Project, number: signal.Signals) -> None:
    cluster.settings |= SLOW

    async def run() -> None:
        async with AsyncExitStack() as stack:
            await killed_at_random(stack, cluster, number)

    asyncio.run(run())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_writes_replies_ends(cluster: Project, number: signal.Signals) -> None:
    """Begins replies in one server, reads them at the other, and ends the first one as they speak."""
    cluster.settings |= SLOW

    async def run() -> None:
        async with cluster.serve(**SETTINGS) as one, cluster.serve(**SETTINGS) as other, person(other.url) as ada:
            followers = await follow_all(ada, await ada.agent(*TOOLS), [one.url, other.url], 3)
            reading = asyncio.create_task(read_all(followers))
            await asyncio.wait_for(followers[0].speaks.wait(), 60)
            began = asyncio.get_running_loop().time()
            await one.end(number)
            await reading
            took = asyncio.get_running_loop().time() - began
            for follower in followers:
                await assert_whole(ada, follower)
            assert any(follower.taken_back for follower in followers)
            assert await ada.notes() == len(followers)
            print(f"after {number.name} the replies took {took:.1f} s")

    asyncio.run(run())


@pytest.mark.deep
def test_a_deploy_hands_replies_over_at_once(cluster: Project) -> None:
    """Ends a server whose replies another process goes on with long before it could be taken for dead."""
    cluster.settings |= LONG

    async def run() -> None:
        async with cluster.serve(**SETTINGS) as one, cluster.serve(**SETTINGS) as other, person(other.url) as ada:
            [follower] = await follow_all(ada, await ada.agent(), [one.url, other.url])
            reading = asyncio.create_task(read_all([follower]))
            await asyncio.wait_for(follower.speaks.wait(), 60)
            follower.speaks.clear()
            assert await one.end(signal.SIGTERM) == 0
            async with asyncio.timeout(4):
                while not follower.taken_back:
                    await asyncio.sleep(0.05)
            await ada.ask("POST", f"chat/messages/{follower.reply['id']}/stop")
            await reading
            assert follower.end["type"] == "message.stopped"

    asyncio.run(run())


@pytest.mark.deep
def test_the_next_start_goes_on_without_redis(alone: Project) -> None:
    alone.settings |= SLOW

    async def run() -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(alone.serve(**SETTINGS))
            ada = await stack.enter_async_context(person(server.url))
            followers = await follow_all(ada, await ada.agent(*TOOLS), [server.url], 3)
            reading = asyncio.create_task(read_all(followers))
            for number in (signal.SIGKILL, signal.SIGTERM):
                await asyncio.wait_for(asyncio.gather(*(follower.speaks.wait() for follower in followers)), 60)
                await server.end(number)
                for follower in followers:
                    follower.speaks.clear()
                server = await stack.enter_async_context(alone.serve(**SETTINGS))
                for follower in followers:
                    follower.servers = [server.url]
            await reading
            ada = Person(ada.client, server.url)
            for follower in followers:
                await assert_whole(ada, follower)
                assert follower.taken_back
            assert await ada.notes() == len(followers)

    asyncio.run(run())


@pytest.mark.parametrize("asked", ["a person", "the client"])
def test_what_waits_outlives_a_restart_of_everything(cluster: Project, asked: str) -> None:
    is_of_client = asked == "the client"
    cluster.settings |= {"DEMO_MODEL_DELAY": "0.01"}

    async def run() -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(cluster.serve(**APART))
            worker = await stack.enter_async_context(cluster.work(**SETTINGS))
            ada = await stack.enter_async_context(person(server.url))
            agent = await ada.agent() if is_of_client else await ada.agent("calculate", ask=True)
            follower = Follower(ada.client, [server.url], agent, [{"name": "look"}] if is_of_client else [])
            await follower.begin()
            reading = asyncio.create_task(read_all([follower]))
            await asyncio.wait_for(follower.asks.wait(), 60)
            await asyncio.gather(server.end(signal.SIGTERM), worker.end(signal.SIGKILL))
            server = await stack.enter_async_context(cluster.serve(**SETTINGS))
            follower.servers, ada = [server.url], Person(ada.client, server.url)
            [call] = (await stored(ada, follower))["parts"]
            path, of_call = f"chat/messages/{follower.reply['id']}", {"tool_call_id": call["tool_call_id"]}
            if is_of_client:
                await ada.ask("POST", f"{path}/tool-results", json={"results": [{**of_call, "content": "5"}]})
            else:
                await ada.ask("POST", f"{path}/approvals", json={**of_call, "approved": True})
            await reading
            reply = await stored(ada, follower)
            assert follower.end["type"] == "message.completed"
            assert f"{call['name']} returned: “5”" in reply["content"]
            kinds = OF_A_CLIENTS_CALL if is_of_client else OF_A_CALL
            assert [event["type"] for event in follower.of_type(*OF_A_CALL, *OF_A_CLIENTS_CALL)] == list(kinds)
            assert not follower.of_type("message.rewound")
            ids = [place_of(id) for id, event in follower.told if event["type"] not in ENDED | {"message.created"}]
            assert ids == sorted(set(ids))
            assert follower.texts == {1: reply["content"]}

    asyncio.run(run())


OF_A_CALL = ("tool.called", "approval.requested", "approval.answered", "tool.returned")
OF_A_CLIENTS_CALL = ("tool.called", "result.requested", "tool.returned")


def place_of(id: str) -> tuple[int, ...]:
    return tuple(map(int, id.split(".")))


@pytest.mark.deep
def test_a_reply_is_stopped_wherever_it_is_worked_on(cluster: Project) -> None:
    """Stops replies that another process writes, one that nobody takes, and one whose process was killed."""
    cluster.settings |= LONG

    async def run() -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(cluster.serve(**APART))
            ada = await stack.enter_async_context(person(server.url))
            agent = await ada.agent()
            [queued] = await follow_all(ada, agent, [server.url])
            await assert_stops(ada, queued)
            worker = await stack.enter_async_context(cluster.work(**SETTINGS))
            live, left = await follow_all(ada, agent, [server.url], 2)
            for follower in (live, left):
                reading = asyncio.create_task(follower.read())
                await asyncio.wait_for(follower.speaks.wait(), 60)
                if follower is live:
                    await assert_stops(ada, live)
                    await asyncio.wait_for(reading, 10)
                    assert live.texts == {0: (await stored(ada, live))["content"]}
                    continue
                await worker.end(signal.SIGKILL)
                await until_dead(cluster.settings["DATABASE_URL"])
                await assert_stops(ada, left)
                await asyncio.wait_for(reading, 10)
                assert left.texts == {}
            [following] = await follow_all(ada, agent, [server.url])
            await assert_stops(ada, following)

    asyncio.run(run())


async def assert_stops(ada: Person, follower: Follower) -> None:
    async with asyncio.timeout(4):
        stopped = await ada.ask("POST", f"chat/messages/{follower.reply['id']}/stop")
    assert stopped["status"] == "stopped"


async def until_dead(url: str) -> None:
    """Waits until the heartbeat of every worker is as old as that of a dead process."""
    connection = await asyncpg.connect(url)
    late = "SELECT bool_and(now() - beat_at > interval '5 s') FROM processes WHERE works"
    try:
        async with asyncio.timeout(60):
            while not await connection.fetchval(late):
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


Happening = Callable[[Proxy], Awaitable[None]]


async def cut_connections(proxy: Proxy) -> None:
    proxy.cut("handshake")
    await asyncio.sleep(SECONDS)
    proxy.phase = None
    assert proxy.cuts


async def lose_commits(proxy: Proxy) -> None:
    proxy.cut("commit")
    await asyncio.sleep(SECONDS)
    proxy.phase = None
    assert proxy.cuts


async def end_all(proxy: Proxy) -> None:
    connection = await asyncpg.connect(proxy.target.rpartition("/")[0] + "/postgres")
    for _ in range(int(SECONDS / 0.2)):
        await connection.execute(TERMINATE, proxy.target.rpartition("/")[2])
        await asyncio.sleep(0.2)
    await connection.close()


@pytest.mark.deep
@pytest.mark.parametrize("happen", [cut_connections, lose_commits, end_all])
def test_connections_to_the_database_are_cut(happen: Happening, folder: Path) -> None:
    async def run(url: str) -> None:
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(proxied(url))
            project = Project(folder, DATABASE_URL=url, **SLOW)
            settings = SETTINGS | {"SHUTDOWN_GRACE_SECONDS": "30", "DATABASE_URL": proxy.url}
            server = await stack.enter_async_context(project.serve(**settings))
            ada = await stack.enter_async_context(person(server.url))
            followers = await follow_all(ada, await ada.agent("calculate", "current_time"), [server.url], 5)
            reading = asyncio.create_task(read_all(followers))
            await asyncio.wait_for(followers[0].speaks.wait(), 60)
            await happen(proxy)
            await reading
            for follower in followers:
                reply = await stored(ada, follower)
                assert follower.end["type"] == "message.completed"
                assert follower.texts == {2: reply["content"]}
                assert len(follower.of_type("tool.called")) == len(follower.of_type("tool.returned")) == 2

    with database("postgresql") as url:
        asyncio.run(run(url))


@pytest.mark.deep
def test_redis_restarts_empty(cluster: Project) -> None:
    cluster.settings |= SLOW

    async def run() -> None:
        async with AsyncExitStack() as stack:
            redis = await stack.enter_async_context(OwnServer.started())
            cluster.settings["REDIS_URL"] = redis.url
            one, other = [await stack.enter_async_context(cluster.serve(**SETTINGS)) for _ in range(2)]
            ada = await stack.enter_async_context(person(other.url))
            followers = await follow_all(ada, await ada.agent(*TOOLS), [one.url, other.url], 5)
            reading = asyncio.create_task(read_all(followers))
            await asyncio.wait_for(followers[0].speaks.wait(), 60)
            await redis.kill()
            await asyncio.sleep(1)
            await redis.start()
            await reading
            for follower in followers:
                await assert_whole(ada, follower)
                assert not follower.taken_back
            assert await ada.notes() == len(followers)

    asyncio.run(run())
