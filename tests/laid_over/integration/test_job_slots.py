"""Tests how the slots of a worker are shared, and what it costs to fill them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Generator

import pytest

from app.core.config import Settings
from app.core.jobs import JobContext, job
from app.repositories.job import JobRepository
from app.services.jobs import worker
from tests.conftest import MakeSettings, running
from tests.counting import statements
from tests.jobs import enqueue, new_user, own_jobs


@pytest.fixture(autouse=True)
def _jobs_of_the_test_alone() -> Generator[None]:
    with own_jobs("report", "think"):
        yield


async def test_nobody_takes_all_the_slots(make_settings: MakeSettings) -> None:
    go_on, ran = asyncio.Event(), asyncio.Event()

    @job()
    async def think(_: JobContext) -> None:
        await go_on.wait()

    @job()
    async def report(_: JobContext) -> None:
        ran.set()

    async with running(make_settings(job_concurrency=4), is_server=True) as app:
        alice, bob = [await new_user(app, f"{name}@example.com") for name in ("alice", "bob")]
        for _ in range(10):
            await enqueue(app.state.database, "think", user_id=alice)
        await enqueue(app.state.database, "report", user_id=bob)
        async with asyncio.timeout(20):
            await ran.wait()
        go_on.set()
        await app.state.worker.drain()


@pytest.mark.parametrize("slots", [1, 4])
async def test_a_slot_that_gets_free_is_filled_at_once(
    slots: int, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs many jobs of one person, while the worker would not look by itself for an hour."""
    monkeypatch.setattr(worker, "LOOK_SECONDS", 3_600.0)
    done, left = asyncio.Event(), list(range(20))

    @job()
    async def report(_: JobContext) -> None:
        left.pop()
        if not left:
            done.set()

    async with running(make_settings(job_concurrency=slots), is_server=True) as app, asyncio.timeout(20):
        alice = await new_user(app, "alice@example.com")
        async with app.state.database.write() as session:
            for _ in left:
                await JobRepository(session).enqueue("report", {}, user_id=alice)
        await done.wait()


async def test_a_job_costs_one_look_however_many_queues_there_are(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOOK_SECONDS", 3_600.0)
    ran: asyncio.Queue[None] = asyncio.Queue()

    @job()
    async def report(_: JobContext) -> None:
        ran.put_nowait(None)

    for number in range(5):
        job(queue=f"others-{number}")(_named(f"think_{number}"))
    async with running(settings, is_server=True) as app, asyncio.timeout(20):

        async def run_one() -> None:
            await enqueue(app.state.database, "report")
            await ran.get()
            await asyncio.wait([one.task for one in app.state.worker._running.values()])

        await run_one()  # after the looks of a worker that starts
        with statements(app) as sent:
            for _ in range(10):
                await run_one()
            await app.state.database.ping()  # during which a look that is not needed would begin
    counts = Counter(statement.split()[0] for statement in sent if "background_jobs" in statement)
    looks = counts.pop("SELECT")  # with those of a worker that has just started, and whose listener has just connected
    assert looks <= 10 + 2
    assert counts == {"INSERT": 10, "UPDATE": 10, "DELETE": 10}


def _named(name: str) -> Callable[[JobContext], Awaitable[None]]:
    async def function(_: JobContext) -> None: ...

    function.__name__ = name
    return function
