"""Tests background jobs from the transaction that adds one to its last attempt."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI

from app.core.config import Settings
from app.core.database import Database
from app.core.errors import SetupError
from app.core.jobs import JobContext, JobFailed, job
from app.models.base import now
from app.models.job import JobStatus
from app.repositories.job import JobRepository
from app.services.jobs import worker
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.jobs import change, enqueue, own_jobs, rows


@pytest.fixture(autouse=True)
def _jobs_of_the_test_alone() -> Generator[None]:
    with own_jobs("report", "think", "tidy"):
        yield


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings, is_server=True) as app:
        yield app


async def test_a_job_gets_its_arguments_as_it_declares_them(app: FastAPI) -> None:
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @job()
    async def report(context: JobContext, id: UUID, at: datetime, words: list[str]) -> None:
        told.set_result((context.state is app.state, context.attempt, id, at, words))

    arguments = {"id": uuid4(), "at": datetime(2026, 3, 1, tzinfo=UTC), "words": ["größe"]}
    await enqueue(app.state.database, "report", arguments=arguments)
    async with asyncio.timeout(20):
        assert await told == (True, 1, *arguments.values())
    await app.state.worker.drain()
    assert await rows(app.state.database, "report") == []


async def test_a_job_is_part_of_the_transaction_that_adds_it(app: FastAPI) -> None:
    ran: list[str] = []

    @job()
    async def report(_: JobContext, name: str) -> None:
        ran.append(name)

    with suppress(ZeroDivisionError):
        async with app.state.database.write() as session:
            await JobRepository(session).enqueue("report", {"name": "rolled back"})
            raise ZeroDivisionError
    await enqueue(app.state.database, "report", arguments={"name": "committed"})
    await app.state.worker.drain()
    assert ran == ["committed"]


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ({"nam": "x"}, {}, "nam: Extra inputs are not permitted"),
        ({"number": "many"}, {}, "number: Input should be a valid number"),
        ({"number": float("nan")}, {}, "would not be the same"),
        ({"anything": Decimal("1.5")}, {}, "would not be the same"),
        ({"anything": object()}, {}, "would not be the same"),
        ({"name": "x" * 1_000_001}, {}, "exceed 1000000 characters"),
        ({}, {"key": "k" * 201}, "a key has at most 200 characters"),
        ({}, {"priority": 1_001}, "from -1000 to 1000"),
        ({}, {"run_at": datetime(2026, 3, 1)}, "a time zone"),  # noqa: DTZ001
    ],
)
async def test_what_cannot_be_run_is_refused_when_it_is_added(
    database: Database, arguments: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    @job
    async def report(_: JobContext, name: str = "", number: float = 0, anything: Any = None) -> None: ...

    with pytest.raises((TypeError, ValueError), match=said):
        await enqueue(database, "report", arguments=arguments, **options)


async def test_only_jobs_that_are_defined_and_do_not_repeat_are_added_in_a_transaction(database: Database) -> None:
    @job
    async def report(_: JobContext) -> None: ...

    with pytest.raises(LookupError, match="There is no job raport"):
        await enqueue(database, "raport")
    with pytest.raises(ValueError, match="it repeats by itself"):
        await enqueue(database, "clean_up")
    async with database.read() as session:
        with pytest.raises(ValueError, match="in a transaction"):
            await JobRepository(session).enqueue("report", {})


async def with_arguments(_: JobContext, name: str) -> None: ...


async def with_positions(_: JobContext, *names: str) -> None: ...


async def without_context() -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (with_arguments, {"every": 60}, "a job that repeats takes no arguments"),
        (with_arguments, {"timeout": 0}, "must be above 0"),
        (with_arguments, {"queue": "q" * 33}, "at most 32 characters"),
        (with_positions, {}, "its arguments must have names"),
        (without_context, {}, "its first parameter must be a JobContext"),
        (lambda _: None, {}, "it must be an async function"),
    ],
)
def test_what_cannot_be_a_job_is_refused_in_a_sentence(function: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        job(**options)(function)


def test_two_jobs_of_one_name_are_refused_with_their_places() -> None:
    @job
    async def report(_: JobContext) -> None: ...

    with pytest.raises(SetupError, match=r"The job report in .*test_jobs: there is another .* in .*test_jobs\."):
        job(report)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), asyncio.CancelledError()])
async def test_whatever_a_job_raises_is_a_failed_attempt(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(worker, "PAUSES", (0.0,))

    @job(attempts=2)
    async def report(_: JobContext) -> None:
        raise error

    await enqueue(app.state.database, "report")
    await app.state.worker.drain()
    [failed] = await rows(app.state.database, "report")
    assert (failed.status, failed.attempts, failed.error) == (JobStatus.failed, 2, type(error).__name__)


async def test_a_job_that_fails_is_tried_again_and_then_kept_until_somebody_retries_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "PAUSES", (0.0,))
    attempts: list[int] = []

    @job(attempts=3)
    async def report(context: JobContext) -> None:
        attempts.append(context.attempt)
        if len(attempts) <= 3:
            raise JobFailed("the printer is on fire")

    async with running(settings) as app:
        await enqueue(app.state.database, "report")
        await app.state.worker.drain()
        [failed] = await rows(app.state.database, "report")
        assert (attempts, failed.status, failed.error) == ([1, 2, 3], JobStatus.failed, "the printer is on fire")
        assert capfd.readouterr().err.count("the printer is on fire") == 3
        async with app.state.database.write() as session:
            assert await JobRepository(session).retry_failed([failed.id]) == [failed.id]
        await app.state.worker.drain()
        assert (attempts, await rows(app.state.database, "report")) == ([1, 2, 3, 1], [])


async def test_a_job_that_takes_too_long_is_stopped(app: FastAPI) -> None:
    @job(attempts=1, timeout=0.05)
    async def report(_: JobContext) -> None:
        await asyncio.Event().wait()

    await enqueue(app.state.database, "report")
    await app.state.worker.drain()
    [failed] = await rows(app.state.database, "report")
    assert (failed.status, failed.error) == (JobStatus.failed, "it took longer than 0.05 s")


async def test_a_job_waits_for_its_time(app: FastAPI) -> None:
    ran = asyncio.Event()

    @job()
    async def report(_: JobContext) -> None:
        ran.set()

    await enqueue(app.state.database, "report", run_at=now() + timedelta(hours=1))
    await app.state.worker.drain()
    assert not ran.is_set()
    await change(app.state.database, "report", run_at=now() - timedelta(seconds=1))
    async with asyncio.timeout(20):
        await ran.wait()


async def test_one_job_waits_for_each_key_while_another_one_runs(make_settings: MakeSettings) -> None:
    began, go_on, ran = asyncio.Event(), asyncio.Event(), list[int]()

    @job()
    async def report(_: JobContext, number: int) -> None:
        ran.append(number)
        began.set()
        await go_on.wait()

    async with running(make_settings(job_concurrency=1), is_server=True) as app:
        database = app.state.database
        await enqueue(database, "report", arguments={"number": 1}, key="sales", run_at=now() + timedelta(hours=1))
        await enqueue(database, "report", arguments={"number": 2}, key="sales")  # so the first one runs at once
        async with asyncio.timeout(20):
            await began.wait()
        for number in (3, 4):
            await enqueue(database, "report", arguments={"number": number}, key="sales")
        go_on.set()
        await app.state.worker.drain()
    assert ran == [1, 3]


async def test_jobs_run_in_the_order_of_priorities(make_settings: MakeSettings) -> None:
    ran: list[int] = []

    @job()
    async def report(_: JobContext, priority: int) -> None:
        ran.append(priority)

    async with running(make_settings(job_concurrency=1)) as app:
        for priority in (1, 0, 2, -1, 0):
            await enqueue(app.state.database, "report", arguments={"priority": priority}, priority=priority)
        await app.state.worker.drain()
    assert ran == [-1, 0, 0, 1, 2]


async def test_a_job_of_a_deleted_account_is_deleted_with_it(app: FastAPI) -> None:
    @job()
    async def report(_: JobContext) -> None: ...

    async with client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        id = UUID((await client.get("/api/v1/users/me")).json()["id"])
        await enqueue(app.state.database, "report", user_id=id, run_at=now() + timedelta(hours=1))
        await app.state.worker.drain()
        assert (await client.delete("/api/v1/users/me")).status_code == 204
    assert await rows(app.state.database, "report") == []
