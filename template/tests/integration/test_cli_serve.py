"""The server as it is started in production and while one develops."""

import signal
import sys

import httpx2

from app.core import migrations
from tests.integration.conftest import Project
from tests.server import Server, bound, started


async def health(server: Server) -> str:
    async with httpx2.AsyncClient(base_url=server.url) as client:
        return (await client.get("/health")).text


async def test_it_serves_until_it_is_told_to_stop(prepared: Project) -> None:
    async with started(prepared.command("serve"), prepared.folder, prepared.environment()) as server:
        await server.says("Uvicorn running")
        assert "healthy" in await health(server)
        assert await server.stop() == 0


async def test_fastapis_own_command_serves_it_too(prepared: Project) -> None:
    command = [sys.executable, "-m", "fastapi", "dev", "--no-reload"]
    async with started(command, prepared.folder, prepared.environment()) as server:
        await server.says("Application startup complete")
        assert "healthy" in await health(server)
        assert await server.stop() in (0, -signal.SIGTERM)


async def test_dev_prepares_everything_and_starts_again_when_a_file_changes(project: Project) -> None:
    settings = project.environment(SECRET_KEY=None, DATABASE_URL="sqlite:///dev.db")
    async with started(project.command("dev"), project.folder, settings) as server:
        await server.says("Application startup complete")
        assert (project.folder / ".env").exists()
        assert f"The API: {server.url}/api/v1" in server.output
        assert "healthy" in await health(server)
        (project.folder / "app" / "asgi.py").touch()
        await server.says("Application startup complete")
        assert await server.stop(signal.SIGINT) == 0


def test_a_pending_migration_is_said_at_start(project: Project) -> None:
    done = project.run("serve", "--port", "0")
    assert done.returncode != 0
    lacking = migrations.heads()
    assert f"The database lacks {len(lacking)} migration(s) ({', '.join(sorted(lacking))})" in done.stderr


def test_an_unreachable_database_is_said_at_start(project: Project) -> None:
    done = project.run("serve", "--port", "0", DATABASE_URL="postgresql://x:hunter2@127.0.0.1:1/none")
    assert done.returncode != 0
    assert "The database postgresql+asyncpg://x:***@127.0.0.1:1/none cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_a_sentence(project: Project) -> None:
    with bound() as listener:
        port = listener.getsockname()[1]
        sentence = project.fail("serve", "--port", str(port))
    assert sentence.startswith(f"127.0.0.1:{port} cannot be listened on")
