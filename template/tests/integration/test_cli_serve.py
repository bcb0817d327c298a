"""The server as it is started in production and while one develops."""

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest

from tests.integration.conftest import Project


def bound(address: str = "127.0.0.1") -> socket.socket:
    listener = socket.socket()
    listener.bind((address, 0))
    listener.listen()
    return listener


def free_port() -> int:
    with bound() as listener:
        return listener.getsockname()[1]


class Server:
    """A process whose output is read as it comes."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.output = ""

    async def says(self, words: str) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            self.output += line.decode()
            if words.encode() in line:
                return
        pytest.fail(f"it never said {words!r}: {self.output}")

    async def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 30)


@asynccontextmanager
async def started(project: Project, command: str, **settings: str | None) -> AsyncGenerator[Server]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *project.command(command, "--port", str(port)),
        cwd=project.folder,
        env=project.environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Server(process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def health(server: Server) -> str:
    async with httpx2.AsyncClient(base_url=server.url) as client:
        return (await client.get("/health")).text


async def test_it_serves_until_it_is_told_to_stop(prepared: Project) -> None:
    async with started(prepared, "serve") as server:
        await server.says("Uvicorn running")
        assert "healthy" in await health(server)
        assert await server.stop(signal.SIGTERM) == 0


async def test_dev_prepares_everything_and_starts_again_when_a_file_changes(project: Project) -> None:
    async with started(project, "dev", SECRET_KEY=None, DATABASE_URL="sqlite:///dev.db") as server:
        await server.says("Application startup complete")
        assert (project.folder / ".env").exists()
        assert f"The API: {server.url}/api/v1" in server.output
        assert "healthy" in await health(server)
        (project.folder / "app" / "asgi.py").touch()
        await server.says("Application startup complete")
        assert await server.stop(signal.SIGINT) == 0


def test_a_pending_migration_is_said_at_start(project: Project) -> None:
    done = project.run("serve", "--port", str(free_port()))
    assert done.returncode != 0
    assert "The database lacks 2 migration" in done.stderr


def test_an_unreachable_database_is_said_at_start(project: Project) -> None:
    done = project.run("serve", "--port", str(free_port()), DATABASE_URL="postgresql://x:hunter2@127.0.0.1:1/none")
    assert done.returncode != 0
    assert "The database postgresql+asyncpg://x:***@127.0.0.1:1/none cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_a_sentence(project: Project) -> None:
    with bound() as listener:
        port = listener.getsockname()[1]
        sentence = project.fail("serve", "--port", str(port))
    assert sentence.startswith(f"127.0.0.1:{port} cannot be listened on")
