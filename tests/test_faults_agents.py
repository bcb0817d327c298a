"""Tests workers and servers that are killed while agents work: nothing is lost, and nothing is done twice."""

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from servers import Project, Server, signed_in

pytestmark = [pytest.mark.faults, pytest.mark.slow]
EXECUTIONS = 50
KILLS = 10
SEED = 7
TOOLS = ("save_note", "calculate", "current_time")
FINAL = {"completed", "failed", "cancelled"}
SETTINGS = {"EXECUTIONS_PER_MINUTE": "0", "MAX_CONCURRENT_EXECUTIONS": "0", "SHUTDOWN_GRACE_SECONDS": "0"}
APART = {**SETTINGS, "WORKER_IN_SERVER": "false"}
LONG = "1"
"""Sets the seconds between two words of the demo model so that an answer takes most of a minute."""


@dataclass(frozen=True)
class Person:
    """Acts for a user who has agents, and asks any of the servers."""

    client: httpx2.AsyncClient
    url: str

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        answer = await self.client.request(method, f"{self.url}/api/v1/{path}", **more)
        answer.raise_for_status()
        return answer.json()

    async def agent(self, *names: str, ask: bool = False) -> str:
        listed = await self.ask("GET", "tools", params={"limit": 100})
        found = {tool["name"]: tool["id"] for tool in listed["items"]}
        ids = [found[name] for name in names]
        policies = dict.fromkeys(ids, "ask") if ask else {}
        body = {"name": "Helper", "model_name": "demo", "tool_ids": ids, "tool_policies": policies}
        return (await self.ask("POST", "agents", json=body))["id"]

    async def execute(self, agent_id: str, times: int = 1) -> list[str]:
        asked = (
            self.ask("POST", f"agents/{agent_id}/execute", json={"input": f"What is {n} + 1?"}) for n in range(times)
        )
        return [execution["id"] for execution in await asyncio.gather(*asked)]

    async def reached(self, ids: Iterable[str], *statuses: str, seconds: float = 60) -> Counter[str]:
        """Waits until all executions have one of these statuses, and counts each."""
        async with asyncio.timeout(seconds):
            while True:
                found = await asyncio.gather(*(self.ask("GET", f"executions/{id}") for id in ids))
                counts = Counter(execution["status"] for execution in found)
                if counts.keys() <= set(statuses):
                    return counts
                await asyncio.sleep(0.2)

    async def events(self, id: str) -> list[dict[str, Any]]:
        """Returns all stored events of an execution that has ended."""
        answer = await self.client.get(f"{self.url}/api/v1/executions/{id}/events")
        lines = (line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: "))
        return [event for event in map(json.loads, lines) if event["type"] != "model.delta"]

    async def answer(self, id: str, *, approved: bool) -> None:
        await self.ask("POST", f"executions/{id}/approvals", json={"tool_call_id": "call_1", "approved": approved})

    async def notes(self) -> int:
        """Counts the notes that were really saved."""
        async with self.client.stream("GET", f"{self.url}/api/v1/users/me/export") as answer:
            return len(json.loads(await answer.aread())["agent_notes"])


@asynccontextmanager
async def person(url: str) -> AsyncIterator[Person]:
    async with signed_in(url) as client:
        yield Person(client, url)


async def assert_done_once(person: Person, ids: list[str]) -> None:
    for told in await asyncio.gather(*map(person.events, ids)):
        assert [event["sequence"] for event in told] == list(range(1, len(told) + 1))
        counts = Counter((event["type"], event.get("tool_call_id")) for event in told)
        for number in range(1, len(TOOLS) + 1):
            assert counts["tool.called", f"call_{number}"] == counts["tool.returned", f"call_{number}"] == 1
        assert counts["model.completed", None] == len(TOOLS) + 1
        assert told[-1]["type"] == "execution.completed"


async def kill_at_random(begin: Callable[[], asyncio.Task[Server]]) -> list[Server]:
    """Kills workers and returns those that are left. Replaces some at once: one at least always lives or starts."""
    chance = random.Random(SEED)
    workers = [begin(), begin()]
    for _ in range(KILLS):
        victim = await workers.pop(chance.randrange(len(workers)))
        await asyncio.sleep(chance.uniform(0.1, 1.2))
        await victim.end(signal.SIGKILL)
        if not workers or chance.random() < 0.5:
            workers.append(begin())
    return await asyncio.gather(*workers)


def test_killed_workers_lose_and_repeat_nothing(cluster: Project) -> None:
    cluster.settings["DEMO_MODEL_DELAY"] = "0.02"

    async def run() -> None:
        async with AsyncExitStack() as stack:
            workers = [await stack.enter_async_context(cluster.work(**APART, WORKER_CONCURRENCY="4")) for _ in range(2)]
            servers = (stack.enter_async_context(cluster.serve(**APART)) for _ in range(2))
            one, other = await asyncio.gather(*servers)
            first = await stack.enter_async_context(cluster.work(**APART))
            ada = await stack.enter_async_context(person(one.url))
            there = Person(ada.client, other.url)
            asking, agent = await ada.agent("calculate", ask=True), await ada.agent(*TOOLS)
            waiting = await ada.execute(asking, 2)
            await ada.reached(waiting, "waiting")
            await first.end(signal.SIGKILL)
            ids = await ada.execute(agent, EXECUTIONS // 2) + await there.execute(agent, EXECUTIONS // 2)
            few = partial(cluster.work, **APART, WORKER_CONCURRENCY="5")
            workers = await kill_at_random(lambda: asyncio.create_task(stack.enter_async_context(few())))
            assert await there.reached(ids, *FINAL) == {"completed": EXECUTIONS}
            await assert_done_once(there, ids)
            assert await there.notes() == EXECUTIONS
            await asyncio.gather(*(process.end(signal.SIGKILL) for process in (one, other, *workers)))
            server = await stack.enter_async_context(cluster.serve(**SETTINGS))
            await assert_goes_on_when_answered(Person(ada.client, server.url), *waiting)

    asyncio.run(run())


async def assert_goes_on_when_answered(person: Person, approved: str, denied: str) -> None:
    await asyncio.gather(person.answer(approved, approved=True), person.answer(denied, approved=False))
    assert await person.reached([approved, denied], *FINAL) == {"completed": 2}
    ends = [await person.ask("GET", f"executions/{id}") for id in (approved, denied)]
    assert "calculate returned: “5”" in ends[0]["output"]
    assert "The call was denied." in ends[1]["output"]
    called = [[event["type"] for event in await person.events(id)].count("tool.called") for id in (approved, denied)]
    assert called == [1, 0]


@pytest.mark.deep
def test_on_sqlite_the_next_start_goes_on(single: Project) -> None:
    single.settings["DEMO_MODEL_DELAY"] = "0.03"

    async def run() -> None:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(single.serve(**SETTINGS))
            ada = await stack.enter_async_context(person(first.url))
            waiting = await ada.execute(await ada.agent("calculate", ask=True), 2)
            await ada.reached(waiting, "waiting")
            ids = await ada.execute(await ada.agent(*TOOLS), EXECUTIONS)
            await asyncio.sleep(random.Random(SEED).uniform(1, 3))
            await first.end(signal.SIGKILL)
            second = await stack.enter_async_context(single.serve(**SETTINGS, WORKER_CONCURRENCY="100"))
            ada = Person(ada.client, second.url)
            assert await ada.reached(ids, *FINAL) == {"completed": EXECUTIONS}
            await assert_done_once(ada, ids)
            assert await ada.notes() == EXECUTIONS
            await assert_goes_on_when_answered(ada, *waiting)
            assert await second.end(signal.SIGTERM) == 0

    asyncio.run(run())


async def who_runs(url: str) -> dict[UUID, UUID]:
    """Returns the process that runs each running execution."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT id, process_id FROM executions WHERE status = 'running'")
    await connection.close()
    return {row["id"]: row["process_id"] for row in rows}


@pytest.mark.deep
def test_what_is_taken_over_within_seconds_can_be_cancelled_in_any_state(cluster: Project) -> None:
    cluster.settings["DEMO_MODEL_DELAY"] = LONG

    async def run() -> None:
        async with AsyncExitStack() as stack:
            two = partial(cluster.work, **APART, WORKER_CONCURRENCY="2")
            starting = (stack.enter_async_context(process) for process in (cluster.serve(**APART), two()))
            server, first = await asyncio.gather(*starting)
            ada = await stack.enter_async_context(person(server.url))
            agent, asking = await ada.agent(), await ada.agent("save_note", ask=True)
            waiting = await ada.execute(asking, 2)
            await ada.reached(waiting, "waiting")
            running = await ada.execute(agent, 2)
            await ada.reached(running, "running")
            await stack.enter_async_context(two())
            await assert_taken_over(cluster.settings["DATABASE_URL"], first)
            await ada.reached(running, "running", seconds=1)
            queued = await ada.execute(agent, 2)
            await assert_stops(ada, [*waiting, *running, *queued])
            others = await ada.execute(agent, 2)  # the worker has room for them once the two have really stopped
            await ada.reached(others, "running", seconds=2)
            await asyncio.gather(*(ada.ask("POST", f"executions/{id}/cancel") for id in others))

    asyncio.run(run())


async def assert_taken_over(url: str, worker: Server) -> None:
    before = await who_runs(url)
    await asyncio.sleep(5)  # a process takes no other for dead in its first seconds
    assert await who_runs(url) == before
    await worker.end(signal.SIGKILL)
    async with asyncio.timeout(10):
        while set(before.values()) & set((await who_runs(url)).values()):
            await asyncio.sleep(0.1)


async def assert_stops(person: Person, ids: list[str]) -> None:
    async with asyncio.timeout(2):
        await asyncio.gather(*(person.ask("POST", f"executions/{id}/cancel") for id in ids))
        told = await asyncio.gather(*map(person.events, ids))
    assert {events[-1]["type"] for events in told} == {"execution.cancelled"}
    await asyncio.sleep(2)
    assert await asyncio.gather(*map(person.events, ids)) == told
    assert await person.notes() == 0
