"""Tests workers that are paused, cut off and killed by their jobs: nothing is lost, and no job kills for ever."""

import asyncio
import shutil
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from processes import succeed
from proxy import proxied
from servers import COMMAND, Project, Server
from test_faults_agents import APART as WITHOUT_WORKER
from test_faults_agents import FINAL, TOOLS, Person, assert_done_once, person, who_runs

pytestmark = [pytest.mark.faults, pytest.mark.slow]
EXECUTIONS = 20
APART = {**WITHOUT_WORKER, "WORKER_CONCURRENCY": str(2 * EXECUTIONS)}
DETECTABLE_SECONDS = 6.0
"""Exceeds the time for which a process must have lived to take others for dead."""
STALL_SECONDS = 12.0

POISON = '''"""Ends the process that runs it."""

import os

from app.core.jobs import JobContext, job


@job(attempts=2)
async def poison(_: JobContext) -> None:
    os._exit(1)
'''
ADD = """
import asyncio, sys
from app.core.config import Settings
from app.core.database import open_database
from app.jobs import jobs
from app.repositories.job import JobRepository

async def add():
    async with open_database(Settings()) as database, database.write() as session:
        await JobRepository(session).enqueue("poison", {})

asyncio.run(add())
"""


async def runners(url: str) -> Counter[UUID]:
    """Counts the running executions of each process."""
    return Counter((await who_runs(url)).values())


async def until_run_by(url: str, number: int, *, but: UUID | None = None) -> UUID:
    """Waits until one process, another one than `but`, runs so many executions, and returns its id."""
    async with asyncio.timeout(30):
        while True:
            for process, runs in (await runners(url)).items():
                if process != but and runs == number:
                    return process
            await asyncio.sleep(0.1)


async def begin(ada: Person, url: str) -> tuple[list[str], UUID]:
    ids = await ada.execute(await ada.agent(*TOOLS), EXECUTIONS)
    return ids, await until_run_by(url, EXECUTIONS)


async def assert_all_done(ada: Person, ids: list[str]) -> None:
    assert await ada.reached(ids, *FINAL, seconds=90) == {"completed": EXECUTIONS}
    await assert_done_once(ada, ids)
    assert await ada.notes() == EXECUTIONS


def test_a_worker_that_wakes_up_takes_nothing_from_the_one_that_took_over(cluster: Project) -> None:
    """Pauses a worker until another has taken over, lets it go on, and kills the other one."""
    cluster.settings["DEMO_MODEL_DELAY"] = "0.5"
    url = cluster.settings["DATABASE_URL"]

    async def run() -> None:
        async with AsyncExitStack() as stack:
            server, first = await asyncio.gather(
                *(stack.enter_async_context(process) for process in (cluster.serve(**APART), cluster.work(**APART)))
            )
            ada = await stack.enter_async_context(person(server.url))
            ids, paused = await begin(ada, url)
            second = await stack.enter_async_context(cluster.work(**APART))
            await asyncio.sleep(DETECTABLE_SECONDS)
            first.process.send_signal(signal.SIGSTOP)
            await until_run_by(url, EXECUTIONS, but=paused)
            first.process.send_signal(signal.SIGCONT)
            await asyncio.sleep(2)  # until it has noticed, and ended what it thought was its own
            await second.end(signal.SIGKILL)
            await assert_all_done(ada, ids)

    asyncio.run(run())


@pytest.mark.deep
def test_a_network_that_swallows_everything_loses_nothing(cluster: Project) -> None:
    cluster.settings["DEMO_MODEL_DELAY"] = "0.5"
    url = cluster.settings["DATABASE_URL"]

    async def run() -> None:
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(proxied(url))
            server, _ = await asyncio.gather(
                stack.enter_async_context(cluster.serve(**APART)),
                stack.enter_async_context(cluster.work(**APART, DATABASE_URL=proxy.url)),
            )
            ada = await stack.enter_async_context(person(server.url))
            ids, cut_off = await begin(ada, url)
            await stack.enter_async_context(cluster.work(**APART))
            await asyncio.sleep(DETECTABLE_SECONDS)
            proxy.flowing.clear()
            await until_run_by(url, EXECUTIONS, but=cut_off)
            await asyncio.sleep(STALL_SECONDS)
            proxy.flowing.set()
            await assert_all_done(ada, ids)

    asyncio.run(run())


@pytest.mark.deep
def test_a_job_that_kills_its_workers_is_given_up(cluster: Project, tmp_path: Path) -> None:
    shutil.copytree(cluster.folder, tmp_path / "project")
    (tmp_path / "project/app/jobs/poison.py").write_text(POISON)
    project = Project(tmp_path / "project", **{**cluster.settings, "DEMO_MODEL_DELAY": "0.01"})
    url = project.settings["DATABASE_URL"]

    async def run() -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(project.serve(**APART))
            ada = await stack.enter_async_context(person(server.url))
            succeed(*(COMMAND[0], "-c", ADD), cwd=project.folder, **project.settings)
            deaths, ids = 0, list[str]()
            while await failure(url) is None:
                worker: Server = await stack.enter_async_context(project.work(**APART))
                ids = await ada.execute(await ada.agent("calculate"), 1)
                async with asyncio.timeout(30):
                    while await failure(url) is None and worker.process.returncode is None:
                        await asyncio.sleep(0.1)
                deaths += worker.process.returncode is not None
                assert deaths <= 2
            assert await ada.reached(ids, *FINAL) == {"completed": 1}
        assert (deaths, await failure(url)) == (2, "ProcessDied")

    asyncio.run(run())


async def failure(url: str) -> str | None:
    """Returns why the job failed, once it has."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(
            "SELECT error FROM background_jobs WHERE name = 'poison' AND status = 'failed'"
        )
    finally:
        await connection.close()
