"""Tests where `serve` and `dev` listen, what they print, and how long idle connections stay open."""

import asyncio
import re
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing, suppress

import httpx2
import pytest

from tests.conftest import bound
from tests.integration.conftest import InProcess, Project
from tests.server import Server, ran, started


def free() -> int:
    with bound() as listener:
        return listener.getsockname()[1]


async def healthy(url: str) -> bool:
    async with httpx2.AsyncClient() as client:
        return "healthy" in (await client.get(f"{url}/health")).text


@asynccontextmanager
async def serving(project: Project, *options: str, **settings: str) -> AsyncGenerator[Server]:
    """Serves on the port of the settings."""
    port = free()
    environment = project.environment(PORT=str(port), **settings)
    async with ran(project.command("serve", *options), project.folder, environment, port) as server:
        await server.says("Uvicorn running")
        yield server


@pytest.mark.parametrize("command", ["serve", "dev"])
async def test_two_colons_hear_both_families(prepared: Project, command: str) -> None:
    assert socket.has_dualstack_ipv6()
    async with started(
        prepared.command(command, "--host", "::"),
        prepared.folder,
        prepared.environment(DATABASE_URL="sqlite:///app.db"),
    ) as server:
        await server.says("Uvicorn running" if command == "serve" else "Application startup complete")
        port = server.url.rpartition(":")[2]
        assert f"http://[::]:{port}" in server.output
        assert await healthy(server.url)
        assert await healthy(f"http://[::1]:{port}")
        assert await server.stop(signal.SIGINT) == 0  # `dev` has a process of its own that would stay


async def test_one_address_of_ipv6_has_brackets(prepared: Project) -> None:
    async with serving(prepared, "--host", "::1") as server:
        port = server.url.rpartition(":")[2]
        assert f"Uvicorn running on http://[::1]:{port} (" in server.output
        assert await healthy(f"http://[::1]:{port}")


async def test_a_name_is_every_address_that_it_has(prepared: Project) -> None:
    async with serving(prepared, "--host", "localhost") as server:
        for _, _, _, _, address in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM):
            host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
            assert await healthy(f"http://{host}:{server.url.rpartition(':')[2]}")


async def test_port_zero_is_printed_as_what_it_became(prepared: Project) -> None:
    async with ran(prepared.command("serve"), prepared.folder, prepared.environment(PORT="0")) as server:
        await server.says("Uvicorn running")
        [port] = re.findall(r"http://127\.0\.0\.1:(\d+) ", server.output)
        assert await healthy(f"http://127.0.0.1:{port}")


async def test_the_option_wins_over_the_setting(prepared: Project) -> None:
    async with started(prepared.command("serve"), prepared.folder, prepared.environment(PORT="1")) as server:
        await server.says("Uvicorn running")
        assert await healthy(server.url)


def test_a_port_that_is_none_is_a_sentence(in_process: InProcess) -> None:
    assert in_process.fail("serve", PORT="http") == (
        "PORT: input should be a valid integer, unable to parse string as an integer."
    )
    with bound() as listener:
        port = listener.getsockname()[1]
        assert in_process.fail("serve", PORT=str(port)).endswith("choose another --host, --port or PORT.")


def test_an_empty_port_is_the_usual_one(in_process: InProcess) -> None:
    with closing(socket.socket()) as taken:
        with suppress(OSError):  # somebody else may have it, which does as well
            taken.bind(("127.0.0.1", 8000))
        assert in_process.fail("serve", PORT="").startswith("Cannot listen on 127.0.0.1:8000 ")


@pytest.mark.parametrize(("seconds", "stays"), [("1", False), ("75", True)])
async def test_an_idle_connection_stays_for_as_long_as_is_set(prepared: Project, seconds: str, stays: bool) -> None:
    async with serving(prepared, KEEP_ALIVE_SECONDS=seconds) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.url.rpartition(":")[2])
        writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"}")
        try:
            async with asyncio.timeout(6):  # longer than the five seconds that it was
                assert await reader.read() == b""
                assert not stays
        except TimeoutError:
            assert stays
        writer.close()


def test_workers_that_cannot_start_end_with_an_error(prepared: Project) -> None:
    done = prepared.run(
        "serve", "--port", "0", "--workers", "2", AI_MODEL="acme:one", REDIS_URL="redis://127.0.0.1:6379/0"
    )
    assert done.returncode == 3
    assert "AI_MODEL=acme:one cannot be used" in done.stdout + done.stderr
