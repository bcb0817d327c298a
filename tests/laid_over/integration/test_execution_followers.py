"""Tests many clients that follow one execution: what they cost, and what each of them receives."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.api.v1.executions import execution_stream_of
from app.core import watch
from app.core.config import Settings
from app.core.database import Database
from app.core.periodic import Supervisor
from app.models.execution import Execution, ExecutionStatus
from app.repositories.execution import ExecutionRepository, append
from app.schemas.execution_event import ModelStarted
from app.services.agents import stream
from app.services.agents.events import to_new_event
from app.services.agents.stream import ExecutionProgress, ExecutionStream
from app.services.processes.heartbeat import open_heartbeat
from tests.agents import EXECUTIONS, agent, asking, events, execute, reached, stored
from tests.conftest import client_for, running, sign_in
from tests.counting import listening
from tests.integration.conftest import StartServer
from tests.integration.test_worker import client_of
from tests.sse import arriving

FOLLOWERS = 50
LOOK = "FROM executions WHERE executions.id IN"
"""Recognises the one query that all followers of a process share."""


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "TURN_SECONDS", 0.01)
    monkeypatch.setattr(watch, "LONGEST_PAUSE", 0.05)


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


class Crowd:
    """Follows an execution with many clients, each of which has received all that there is."""

    def __init__(self, app: FastAPI, following: ExecutionStream, execution: Execution) -> None:
        self.heard: list[list[ExecutionProgress]] = [[] for _ in range(FOLLOWERS)]
        self.app = app
        self.execution = execution
        self.tasks = [asyncio.create_task(self._follow(following, heard)) for heard in self.heard]

    async def _follow(self, following: ExecutionStream, heard: list[ExecutionProgress]) -> None:
        async with aclosing(following.follow(self.execution, self.execution.last_sequence)) as progress:
            async for step in progress:
                heard.append(step)

    async def reads_until(self, done: Callable[[int], bool]) -> list[str]:
        """Returns the statements that read executions meanwhile, without the shared queries, until `done(queries)`."""
        looks, reads, turn = 0, list[str](), asyncio.Event()

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            nonlocal looks
            looks += LOOK in " ".join(statement.split())
            if "execution_events" in statement or "executions.configuration" in statement:
                reads.append(statement)
            turn.set()

        with listening(self.app, after_cursor_execute=note):
            async with asyncio.timeout(20):
                while not done(looks):
                    turn.clear()
                    await turn.wait()
        return reads


@asynccontextmanager
async def crowd(app: FastAPI, alice: httpx2.AsyncClient) -> AsyncGenerator[Crowd]:
    """Yields followers of an execution that waits for an approval."""
    id = UUID((await execute(alice, (await asking(alice, "calculate"))["id"]))["id"])
    await reached(alice, str(id), "waiting")
    following = execution_stream_of(app.state, UUID((await alice.get("/api/v1/users/me")).json()["id"]))
    gathered = Crowd(app, following, await following.find(id))
    await gathered.reads_until(lambda looks: looks > 2)
    yield gathered
    for task in gathered.tasks:
        task.cancel()
    await asyncio.wait(gathered.tasks)


@pytest.fixture
async def elsewhere_id(database: Database) -> AsyncGenerator[UUID]:
    """Yields the id of another process that lives."""
    async with open_heartbeat(database, Supervisor(), is_server=False) as heartbeat:
        yield heartbeat.id


async def happens_elsewhere(database: Database, execution: Execution, **values: object) -> None:
    async with database.write() as session:
        row = await ExecutionRepository(session, execution.user_id).get(execution.id)
        append(session, row, to_new_event(ModelStarted(model="demo")))
        await session.execute(update(Execution).where(Execution.id == execution.id).values(**values))


@pytest.mark.parametrize("runs", [False, True])
async def test_idle_followers_ask_the_database_for_nothing(
    app: FastAPI, elsewhere_id: UUID, alice: httpx2.AsyncClient, database: Database, runs: bool
) -> None:
    async with crowd(app, alice) as followers:
        if runs:  # by a process that never notifies this one
            elsewhere = {"status": ExecutionStatus.running, "run_id": uuid4(), "process_id": elsewhere_id}
            await happens_elsewhere(database, followers.execution, **elsewhere)
            await followers.reads_until(lambda looks: all(followers.heard))
        assert await followers.reads_until(lambda looks: looks > 5) == []


async def test_what_happens_in_another_process_is_read_once_for_all(
    app: FastAPI, elsewhere_id: UUID, alice: httpx2.AsyncClient, database: Database
) -> None:
    async with crowd(app, alice) as followers:
        last = followers.execution.last_sequence
        for number in (1, 2):
            elsewhere = {"run_id": uuid4(), "status": ExecutionStatus.running, "process_id": elsewhere_id}
            reading = asyncio.create_task(
                followers.reads_until(lambda _, number=number: all(len(heard) == number for heard in followers.heard))
            )
            await happens_elsewhere(database, followers.execution, **elsewhere)
            reads = await reading
            assert len([read for read in reads if "FROM execution_events" in read]) == 1
        for heard in followers.heard:
            assert [(step.sequence, step.type) for step in heard] == [
                (last + 1, "model.started"),
                (last + 2, "model.started"),
            ]


async def test_followers_leave_with_what_they_follow(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    async with crowd(app, alice) as followers:
        assert (await alice.delete("/api/v1/users/me")).status_code == 204
        async with asyncio.timeout(10):
            await asyncio.gather(*followers.tasks)
    assert app.state.execution_watch._watched == {}


async def test_silence_is_told_again_and_again(
    app: FastAPI, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_SECONDS", 0.01)
    async with crowd(app, alice) as followers:
        last = ExecutionProgress(followers.execution.last_sequence)
        await followers.reads_until(lambda _: all(len(heard) > 2 for heard in followers.heard))
        assert all(step == last for heard in followers.heard for step in heard)


async def test_every_event_of_another_process_comes_once_and_in_order(settings: Settings) -> None:
    """Follows in a process that shares only the database with the one that works."""
    async with running(settings) as app, client_for(app) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        queued = await execute(alice, (await agent(alice, "calculate"))["id"])
        following = [asyncio.create_task(events(alice, queued["id"])) for _ in range(3)]
        async with running(settings, is_server=True), asyncio.timeout(20):
            told = [stored(heard) for heard in await asyncio.gather(*following)]
        assert [event.id for event in told[0]] == list(range(1, len(told[0]) + 1))
        assert told[0][-1].type == "execution.completed"
        assert told[1:] == told[:1] * 2
        for sequence in (0, 3, len(told[0])):
            assert stored(await events(alice, queued["id"], sequence)) == told[0][sequence:]


async def test_streams_are_counted_until_they_are_left(start_server: StartServer) -> None:
    async with start_server(SOCKETS_PER_USER="1") as server, client_of(server) as alice:
        alice.headers.update(await sign_in(alice, "alice@example.com"))
        queued = await execute(alice, (await asking(alice, "calculate"))["id"])
        path = f"{EXECUTIONS}/{queued['id']}/events"
        async with alice.stream("GET", path) as response:
            heard = arriving(response)
            assert (await anext(heard)).type == "execution.started"
            async with alice.stream("GET", path) as refused:
                assert refused.status_code == 429
                assert json.loads(await refused.aread())["code"] == "too_many_at_once"
        await asyncio.wait_for(until(partial(is_let_in, alice, path)), 10)


async def is_let_in(client: httpx2.AsyncClient, path: str) -> bool:
    """Tells whether the server accepts a stream; it notices that a client has left, but not at once."""
    async with client.stream("GET", path) as response:
        return response.status_code == 200


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
