"""Runs processes of one project that share a database, and that tests kill, stop and pause."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx2
from processes import environment, succeed

COMMAND = (sys.executable, "-m", "app.cli")


@dataclass
class Server:
    process: asyncio.subprocess.Process
    log: "asyncio.Task[bytes]"
    url: str = ""

    async def end(self, number: signal.Signals) -> int:
        """Sends a signal, waits for the end and returns the exit status."""
        self.process.send_signal(number)
        await self.log
        return await self.process.wait()


class Project:
    """Prepares a project whose servers all use one database."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.settings = {
            "SECRET_KEY": uuid4().hex,
            "DEMO_MODEL_DELAY": "0.15",
            "REQUESTS_PER_MINUTE": "0",
            "MESSAGES_PER_MINUTE": "0",
            "MAX_CONCURRENT_REPLIES": "0",
            "SOCKETS_PER_USER": "0",
            "LOG_LEVEL": "INFO",
            **settings,
        }
        succeed(*COMMAND, "db", "upgrade", cwd=folder, **self.settings)

    @asynccontextmanager
    async def serve(self, *options: str, **settings: str) -> AsyncIterator[Server]:
        async with self.serve_at(free_port(), *options, **settings) as server:
            yield server

    @asynccontextmanager
    async def serve_at(self, port: int, *options: str, **settings: str) -> AsyncIterator[Server]:
        said = ("running on http://", "Application startup complete")
        async with self._started("serve", f"--port={port}", *options, said=said, settings=settings) as server:
            server.url = f"http://127.0.0.1:{port}"
            await listens(port)
            yield server

    @asynccontextmanager
    async def work(self, **settings: str) -> AsyncIterator[Server]:
        """Starts a worker process, which serves no requests."""
        async with self._started("worker", said=("Working.",), settings=settings) as server:
            yield server

    @asynccontextmanager
    async def _started(self, *command: str, said: Sequence[str], settings: dict[str, str]) -> AsyncIterator[Server]:
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, *command),
            cwd=self.folder,
            env=environment(**{**self.settings, **settings}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=2**20,
        )
        assert process.stdout
        try:
            await says(process.stdout, said)
            # A full pipe would stop the server.
            yield Server(process, asyncio.create_task(process.stdout.read()))
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            await process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def listens(port: int) -> None:
    """Waits until the port is open: with several workers, the parent logs the address before any of them listens."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return


async def says(log: asyncio.StreamReader, words: Sequence[str]) -> None:
    """Reads the log until it has all of `words`: with several workers the parent logs first. Raises AssertionError."""
    said = ""
    async for line in log:
        said += line.decode()
        if all(word in said for word in words):
            return
    raise AssertionError(said)


@asynccontextmanager
async def signed_in(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    # Shorter than a server keeps an idle connection: else one may be used just as it closes.
    limits = httpx2.Limits(max_connections=None, keepalive_expiry=1)
    async with httpx2.AsyncClient(timeout=60, limits=limits) as client:
        account = {"email": "ada@example.com", "password": "a long enough phrase"}
        await client.post(f"{url}/api/v1/auth/register", json=account)
        form = {"username": account["email"], "password": account["password"]}
        tokens = (await client.post(f"{url}/api/v1/auth/login", data=form)).json()
        client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        yield client


async def all_completed(client: httpx2.AsyncClient, url: str, number: int) -> None:
    listed, params = f"{url}/api/v1/executions", {"limit": "1"}
    async with asyncio.timeout(120):
        while await open_ones(client, listed, params):
            await asyncio.sleep(0.1)
    params, found = {"limit": "100", "status": "completed"}, 0
    while True:
        page = (await client.get(listed, params=params)).json()
        found += len(page["items"])
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert found == number


async def open_ones(client: httpx2.AsyncClient, listed: str, params: dict[str, str]) -> bool:
    pages = [await client.get(listed, params={**params, "status": status}) for status in ("queued", "running")]
    return any(page.json()["items"] for page in pages)
