"""Tests background jobs of several workers: what they share, take over, and hear of each other."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from uuid import uuid4

import pytest
from fastapi import FastAPI
from sqlalchemy import event, insert, select

from app.core.config import Settings
from app.core.database import Database
from app.core.jobs import JobContext, job, jobs
from app.models.base import now
from app.models.job import BackgroundJob, JobStatus
from app.repositories import process
from app.repositories.job import JobRepository
from app.services.jobs import worker
from tests.conftest import BACKENDS, MakeSettings, end_other_connections, running
from tests.jobs import change, enqueue, new_user, own_jobs, rows

MANY = 10_000
ON_POSTGRESQL = pytest.mark.parametrize(
    "database_url", [kind for kind in BACKENDS if kind == "postgresql"], indirect=True
)


@pytest.fixture(autouse=True)
def _jobs_of_the_test_alone() -> Generator[None]:
    with own_jobs("report", "think", "tidy"):
        yield


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


async def test_a_job_repeats_in_one_process_at_a_time(make_settings: MakeSettings) -> None:
    enough, at_once, most, ran = asyncio.Event(), 0, 0, 0

    @job(every=0.01)
    async def tidy(_: JobContext) -> None:
        nonlocal at_once, most, ran
        at_once, ran = at_once + 1, ran + 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        if ran >= 3:
            enough.set()

    settings = make_settings()
    async with running(settings, is_server=True) as app:
        workers = [worker.JobWorker(jobs, settings, app.state) for _ in range(2)]
        async with asyncio.timeout(20):
            while not enough.is_set():
                for one in workers:
                    await one.drain()
        assert (most, len(await rows(app.state.database, "tidy"))) == (1, 1)


async def test_a_job_whose_process_died_is_run_by_another(app: FastAPI) -> None:
    attempts: asyncio.Queue[int] = asyncio.Queue()

    @job(attempts=2)
    async def report(context: JobContext) -> None:
        attempts.put_nowait(context.attempt)
        await asyncio.Event().wait()

    async def died(attempt: int) -> None:
        """Simulates that the process that ran it was killed, and that this one has lived long enough to detect it."""
        assert await attempts.get() == attempt
        await change(app.state.database, "report", process_id=uuid4())
        app.state.worker.cancel()
        app.state.heartbeat._steady_since -= process.DEAD_SECONDS

    await enqueue(app.state.database, "report")
    async with asyncio.timeout(20):
        await died(1)
        await died(2)
        while (await rows(app.state.database, "report"))[0].status is not JobStatus.failed:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    [failed] = await rows(app.state.database, "report")
    assert (failed.attempts, failed.error) == (3, "ProcessDied")


async def test_what_another_process_has_taken_over_is_not_ended_by_the_first(app: FastAPI) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    @job()
    async def report(_: JobContext) -> None:
        began.set()
        await go_on.wait()

    await enqueue(app.state.database, "report")
    async with asyncio.timeout(20):
        await began.wait()
    other = uuid4()
    await change(app.state.database, "report", process_id=other, attempts=2)
    go_on.set()
    while app.state.worker.is_busy:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    [running] = await rows(app.state.database, "report")
    assert (running.status, running.process_id, running.attempts) == (JobStatus.running, other, 2)


async def test_what_is_not_done_when_a_process_stops_is_left_to_the_next(make_settings: MakeSettings) -> None:
    began, attempts = asyncio.Event(), list[int]()

    @job()
    async def report(context: JobContext) -> None:
        attempts.append(context.attempt)
        began.set()
        if len(attempts) == 1:
            await asyncio.Event().wait()

    settings = make_settings(shutdown_grace_seconds=0)
    async with running(settings, is_server=True) as app:
        await enqueue(app.state.database, "report")
        async with asyncio.timeout(20):
            await began.wait()
    async with running(settings, is_server=True) as app:
        await app.state.worker.drain()
        assert (attempts, await rows(app.state.database, "report")) == ([1, 1], [])


async def test_jobs_of_another_version_are_left_to_it(settings: Settings) -> None:
    @job()
    async def report(_: JobContext) -> None: ...

    async with running(settings) as app:
        await enqueue(app.state.database, "report")
        known = {name: found for name, found in jobs.items() if name != "report"}
        await worker.JobWorker(known, settings, app.state).drain()
        assert [row.status for row in await rows(app.state.database, "report")] == [JobStatus.queued]


async def test_a_claim_whose_answer_was_lost_is_made_again(app: FastAPI) -> None:
    """Simulates a connection that broke just after the commit: the row says this process, which does not know it."""
    ran = asyncio.Event()

    @job()
    async def report(_: JobContext) -> None:
        ran.set()

    await enqueue(app.state.database, "report", run_at=now() + timedelta(hours=1))
    lost = {"status": JobStatus.running, "process_id": app.state.heartbeat.id, "run_at": None, "attempts": 1}
    await change(app.state.database, "report", **lost)
    async with asyncio.timeout(20):
        await ran.wait()


async def test_people_take_turns_once_their_jobs_are_due(make_settings: MakeSettings) -> None:
    ran: list[str] = []

    @job
    async def report(_: JobContext, of: str) -> None:
        ran.append(of)

    async with running(make_settings(job_concurrency=1)) as app:
        people = {name: await new_user(app, f"{name}@example.com") for name in ("alice", "bob", "carol")}
        await app.state.worker.drain()
        for name in ["alice"] * 10 + ["bob"] * 10:
            at = now() - timedelta(seconds=1)
            await enqueue(app.state.database, "report", arguments={"of": name}, user_id=people[name], run_at=at)
        await app.state.worker._return_to_queue()
        await enqueue(app.state.database, "report", arguments={"of": "carol"}, user_id=people["carol"])
        await app.state.worker.drain()
    assert len(ran) == 21
    assert ran.index("carol") <= 4


async def test_ten_thousand_jobs_of_one_person_delay_nobody_else(make_settings: MakeSettings) -> None:
    ran: list[str] = []

    @job()
    async def report(_: JobContext, of: str) -> None:
        ran.append(of)

    async with running(make_settings(job_concurrency=4)) as app:
        alice, bob = [await new_user(app, f"{name}@example.com") for name in ("alice", "bob")]
        await app.state.worker.drain()
        await enqueue(app.state.database, "report", arguments={"of": "alice"}, user_id=alice)
        [first] = await rows(app.state.database, "report")
        columns = {column.key: getattr(first, column.key) for column in BackgroundJob.__table__.columns}
        more = [{**columns, "id": uuid4(), "turn": first.turn + number} for number in range(1, MANY)]
        async with app.state.database.write() as session:
            await session.execute(insert(BackgroundJob), more)
        for _ in range(3):
            await enqueue(app.state.database, "report", arguments={"of": "bob"}, user_id=bob)
        draining = asyncio.create_task(app.state.worker.drain())
        async with asyncio.timeout(20):
            while ran.count("bob") < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        position = max(place for place, name in enumerate(ran) if name == "bob")
        app.state.shutdown.request()
        await draining
    assert position < 12


@ON_POSTGRESQL
async def test_a_row_that_is_locked_delays_nothing_else(settings: Settings, database: Database) -> None:
    """Counts the claims meanwhile, since a worker that tries again at once would never rest."""
    ran, claims = asyncio.Event(), list[None]()

    @job
    async def report(_: JobContext) -> None: ...

    @job(queue="others")
    async def think(_: JobContext) -> None:
        ran.set()

    async with running(settings) as app:
        await enqueue(database, "report")
        event.listen(app.state.database.engine.sync_engine, "begin", lambda _: claims.append(None))
        async with database.write() as session:
            await session.execute(select(BackgroundJob).with_for_update())
            async with database.write() as other:
                await JobRepository(other).enqueue("think", {})
            await app.state.worker.drain()
            assert ran.is_set()
            assert len(claims) < 20
        await app.state.worker.drain()
    assert await rows(database, "report") == []


async def test_a_job_follows_its_function_to_another_queue(settings: Settings) -> None:
    async def report(_: JobContext) -> None: ...

    job(report)
    async with running(settings) as app:
        await enqueue(app.state.database, "report")
    del jobs["report"]
    job(queue="others")(report)
    async with running(settings, is_server=True) as app:
        await app.state.worker.drain()
        assert await rows(app.state.database, "report") == []


@ON_POSTGRESQL
async def test_a_worker_hears_at_once_of_jobs_that_other_processes_add(
    settings: Settings, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adds jobs through another pool of connections while the worker would not look by itself for an hour; then again
    after its connections were cut."""
    monkeypatch.setattr(worker, "LOOK_SECONDS", 3_600.0)
    monkeypatch.setattr("app.core.periodic.RESTART_SECONDS", 0.01)
    ran: asyncio.Queue[int] = asyncio.Queue()

    @job()
    async def report(_: JobContext, number: int) -> None:
        ran.put_nowait(number)

    async with running(settings, is_server=True), asyncio.timeout(20):
        await enqueue(database, "report", arguments={"number": 1})
        assert await ran.get() == 1
        await end_other_connections(database_url)
        await database.close()  # whose connections are gone, too
        await enqueue(database, "report", arguments={"number": 2})
        assert await ran.get() == 2
        await enqueue(database, "report", arguments={"number": 3})
        assert await ran.get() == 3


async def test_people_take_turns(make_settings: MakeSettings) -> None:
    ran: list[str] = []

    @job()
    async def report(_: JobContext, of: str) -> None:
        ran.append(of)

    async with running(make_settings(job_concurrency=1)) as app:
        alice, bob = [await new_user(app, f"{name}@example.com") for name in ("alice", "bob")]
        await app.state.worker.drain()
        for _ in range(10):
            await enqueue(app.state.database, "report", arguments={"of": "alice"}, user_id=alice)
        for _ in range(3):
            await enqueue(app.state.database, "report", arguments={"of": "bob"}, user_id=bob)
        await app.state.worker.drain()
    assert "".join(name[0] for name in ran) == "aababab" + "a" * 6
