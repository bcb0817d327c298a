"""Tests that nothing is lost when databases and Redis restart, a disk is full, or clocks jump."""

import asyncio
import resource
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from own import Own, own_postgresql, own_redis
from servers import Project, Server, signed_in
from services import database
from test_faults import Reader, everything
from test_faults_agents import APART, FINAL, SETTINGS, TOOLS, assert_done_once, person, who_runs

pytestmark = [pytest.mark.deep, pytest.mark.faults, pytest.mark.slow]
READERS, EXECUTIONS = 20, 20


async def live_through(project: Project, happen: Callable[[Server], Awaitable[None]], **settings: str) -> None:
    """Reads replies and runs executions while it happens. All must complete, and match what is stored."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(project.serve(**SETTINGS | {"SHUTDOWN_GRACE_SECONDS": "30"}, **settings))
        ada = await stack.enter_async_context(person(one.url))
        agent = await ada.agent(*TOOLS)
        readers = [Reader(ada.client, [one.url]) for _ in range(READERS)]
        reading = asyncio.gather(*(reader.read() for reader in readers))
        ids = await ada.execute(agent, EXECUTIONS)
        await asyncio.wait_for(asyncio.gather(*(reader.speaks.wait() for reader in readers)), 60)
        await happen(one)
        await asyncio.wait_for(reading, 60)
        assert await ada.reached(ids, *FINAL) == {"completed": EXECUTIONS}
        await assert_done_once(ada, ids)
        stored = {reply["id"]: reply for _, reply in await everything(ada.client, one.url)}
        for reader in readers:
            assert reader.end["type"] == "message.completed"
            assert reader.text == reader.end["message"]["content"] == stored[reader.reply_id]["content"]
        assert await one.end(signal.SIGTERM) == 0
        assert "Traceback" not in one.log.result().decode()


def test_a_worker_that_is_stopped_leaves_what_it_does_to_the_next(cluster: Project) -> None:
    cluster.settings["DEMO_MODEL_DELAY"] = "0.1"  # an answer takes some seconds, which is longer than the grace period

    async def run() -> None:
        async with cluster.serve(**APART) as server, person(server.url) as ada, cluster.work(**APART) as first:
            ids = await ada.execute(await ada.agent(*TOOLS), EXECUTIONS)
            while not set((await who_runs(cluster.settings["DATABASE_URL"])).values()):
                await asyncio.sleep(0.05)
            assert await first.end(signal.SIGTERM) == 0
            assert not await who_runs(cluster.settings["DATABASE_URL"])
            async with cluster.work(**APART):
                assert await ada.reached(ids, *FINAL) == {"completed": EXECUTIONS}
            await assert_done_once(ada, ids)
            assert await ada.notes() == EXECUTIONS

    asyncio.run(run())


def test_postgresql_restarts(folder: Path) -> None:
    with own_postgresql() as postgresql:
        project = Project(folder, DATABASE_URL=postgresql.url)
        asyncio.run(live_through(project, away_for_seconds(postgresql)))


def test_redis_restarts_and_has_forgotten_everything(folder: Path) -> None:
    with own_redis() as redis, database("postgresql") as url:
        project = Project(folder, DATABASE_URL=url, REDIS_URL=redis.url)
        asyncio.run(live_through(project, away_for_seconds(redis)))


def away_for_seconds(own: Own) -> Callable[[Server], Awaitable[None]]:
    async def happen(_server: Server) -> None:
        await asyncio.to_thread(own.down)
        await asyncio.sleep(2)
        await asyncio.to_thread(own.up)

    return happen


@pytest.mark.parametrize("minutes", [10, -10])
def test_the_clock_jumps(minutes: int, cluster: Project, tmp_path: Path) -> None:
    """Changes the clock of one machine among several. On SQLite a process is alone, and never takes itself for dead."""
    offset = tmp_path / "offset"
    offset.write_text("+0")

    async def jump(_server: Server) -> None:
        offset.write_text(f"{60 * minutes:+d}")

    asyncio.run(live_through(cluster, jump, **clock(FAKETIME_TIMESTAMP_FILE=str(offset), FAKETIME_NO_CACHE="1")))


def clock(**told: str) -> dict[str, str]:
    """Returns the settings of a process whose clock libfaketime changes as told."""
    found = find_spec("libfaketime")
    assert found, "libfaketime is needed, which `nox -s faults` installs"
    [library] = Path(str(found.origin)).parent.rglob("libfaketime.so.1")
    return {"LD_PRELOAD": str(library), "DONT_FAKE_MONOTONIC": "1", **told}


def test_who_logs_in_where_the_clock_is_ahead_is_known_everywhere(cluster: Project) -> None:
    async def run() -> None:
        async with (
            cluster.serve(**clock(FAKETIME="+60s")) as one,
            cluster.serve() as other,
            signed_in(one.url) as client,
        ):
            assert (await client.get(f"{other.url}/api/v1/users/me")).status_code == httpx2.codes.OK

    asyncio.run(run())


def test_a_full_disk_is_said_and_breaks_nothing(single: Project) -> None:
    file = Path(urlsplit(single.settings["DATABASE_URL"]).path)

    async def run() -> None:
        async with single.serve(**SETTINGS) as server, signed_in(server.url) as client:
            create = {"title": "x" * 200}
            path = f"{server.url}/api/v1/chat/conversations"
            limit_files(server, file.stat().st_size)
            answers = [await client.post(path, json=create) for _ in range(200)]
            limit_files(server, resource.RLIM_INFINITY)
            kept = [answer for answer in answers if answer.status_code == httpx2.codes.CREATED]
            refused = [answer.json() for answer in answers if answer not in kept]
            assert refused
            assert {problem["code"] for problem in refused} == {"database_unavailable"}
            kept.append(await client.post(path, json=create))
            assert (await client.get(path, params={"limit": 100})).json()["items"]
            assert await server.end(signal.SIGTERM) == 0
            assert "disk I/O error" in server.log.result().decode()
        with sqlite3.connect(file) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT count(*) FROM conversations").fetchone() == (len(kept),)

    asyncio.run(run())


def limit_files(server: Server, size: int) -> None:
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
