"""Tests the server as it is started in production and during development."""

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress

import httpx2
import pytest

from app.core import migrations
from app.core.shutdown import STOPPING
from tests.conftest import bound
from tests.integration.conftest import InProcess, Project
from tests.server import Server, started

BELL = """
from app.models.base import Base


class Bell(Base):
    __tablename__ = "bells"
"""


async def health(server: Server) -> str:
    async with httpx2.AsyncClient(base_url=server.url) as client:
        return (await client.get("/health")).text


async def test_it_serves_until_it_is_told_to_stop(prepared: Project) -> None:
    async with started(prepared.command("serve"), prepared.folder, prepared.environment()) as server:
        await server.says("Uvicorn running")
        assert "healthy" in await health(server)
        assert await server.stop() == 0


LATER = {"both": STOPPING, "interrupted": (signal.SIGINT,), "terminated": (signal.SIGTERM,)}


@pytest.mark.parametrize("later", LATER)
async def test_a_signal_that_comes_twice_ends_it_as_one_does(prepared: Project, later: str) -> None:
    async with started(prepared.command("serve"), prepared.folder, prepared.environment()) as server:
        await server.says("Uvicorn running")
        server.process.send_signal(signal.SIGINT)
        await server.says("Finished server process")
        async with asyncio.timeout(30):
            while server.process.returncode is None:
                with suppress(ProcessLookupError):
                    for number in LATER[later]:
                        os.kill(server.process.pid, number)  # send_signal takes the status from asyncio
                await asyncio.sleep(0.001)  # so that signals come at every point of the shutdown, and not at one
            rest, _ = await server.process.communicate()
    assert b"Traceback" not in rest
    assert server.process.returncode in {0, *(-number for number in LATER[later])}  # the latter as Python itself ends


async def test_fastapis_own_command_serves_it_too(prepared: Project) -> None:
    command = [sys.executable, "-m", "fastapi", "dev", "--no-reload"]
    async with started(command, prepared.folder, prepared.environment()) as server:
        await server.says("Uvicorn running on")
        assert "healthy" in await health(server)
        assert await server.stop() in (0, -signal.SIGTERM)


async def test_dev_prepares_everything_and_starts_again_when_a_file_changes(project: Project) -> None:
    settings = project.environment(SECRET_KEY=None, DATABASE_URL="sqlite:///dev.db")
    async with started(project.command("dev"), project.folder, settings) as server:
        await server.says("Application startup complete")
        assert (project.folder / ".env").exists()
        assert f"The API: {server.url}/api/v1" in server.output
        assert re.search("Next: create an account with `.+ users create EMAIL`", server.output)
        assert "healthy" in await health(server)
        (project.folder / "app" / "asgi.py").touch()
        await server.says("Application startup complete")
        assert await server.stop(signal.SIGINT) == 0


async def test_dev_goes_on_when_a_migration_is_written(project: Project) -> None:
    """Logs what to do and starts anyway: otherwise it would wait for another change after the migration is applied."""
    settings = project.environment(DATABASE_URL="sqlite:///dev.db")
    async with started(project.command("dev"), project.folder, settings) as server:
        await server.says("Application startup complete")
        project.succeed("db", "revision", "--empty", "by hand", DATABASE_URL="sqlite:///dev.db")
        (project.folder / "app" / "asgi.py").touch()
        await server.says("migration not applied")
        await server.says("Application startup complete")
        assert "healthy" in await health(server)
        project.succeed("db", "upgrade", DATABASE_URL="sqlite:///dev.db")
        (project.folder / "app" / "models" / "bell.py").write_text(BELL)
        await server.says("table without a migration")
        await server.says("Application startup complete")
        assert "tables=['bells']" in server.output
        assert await server.stop(signal.SIGINT) == 0


def test_a_pending_migration_is_said_at_start(project: Project) -> None:
    done = project.run("serve", "--port", "0")
    assert done.returncode != 0
    lacking = migrations.heads()
    assert f"The database lacks migrations (up to {', '.join(sorted(lacking))})" in done.stderr


def test_an_unreachable_database_is_said_at_start(project: Project) -> None:
    done = project.run("serve", "--port", "0", DATABASE_URL="postgresql://x:hunter2@127.0.0.1:1/none")
    assert done.returncode != 0
    assert "The database postgresql+asyncpg://x:***@127.0.0.1:1/none cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_a_sentence(in_process: InProcess) -> None:
    with bound() as listener:
        port = listener.getsockname()[1]
        sentence = in_process.fail("serve", "--port", str(port))
    assert sentence.startswith(f"Cannot listen on 127.0.0.1:{port}")
