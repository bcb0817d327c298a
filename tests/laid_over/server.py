"""Runs the application as a process of its own, on a port of its own."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import bound


class Server:
    """Holds a running process, and reads its output as it comes."""

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
        pytest.fail(f"the process never printed {words!r}: {self.output}")

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal, waits for the process to end, and returns its exit status."""
        self.process.send_signal(number)
        rest, _ = await asyncio.wait_for(self.process.communicate(), 30)
        self.output += rest.decode()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def started(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> AsyncGenerator[Server]:
    """Runs the command with `--port` and a free port, and leaves no process behind."""
    with bound() as listener:
        port = listener.getsockname()[1]
    async with ran([*command, "--port", str(port)], cwd, env, port) as server:
        yield server


@asynccontextmanager
async def ran(command: Sequence[str], cwd: Path, env: Mapping[str, str], port: int = 0) -> AsyncGenerator[Server]:
    """Runs the command, and leaves no process behind; without a port it is one that serves nothing."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Server(process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
