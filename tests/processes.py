"""Runs real programs for tests, with as little of this process's environment as they need."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sys.executable).parent


LEFT_OUT = re.compile(r"PYTEST_|PYTHON|COV|VIRTUAL_ENV$|UV_PROJECT_ENVIRONMENT$|UV_PYTHON$")
"""Matches what pytest and nox set for their own processes; uv would take a project's environment to be nox's."""


def environment(**changes: str) -> dict[str, str]:
    """Returns this process's environment, without what pytest, Python and nox have left in it."""
    kept = {name: value for name, value in os.environ.items() if not LEFT_OUT.match(name)}
    return {**kept, "PATH": f"{SCRIPTS}{os.pathsep}{kept['PATH']}", "NO_COLOR": "1", **changes}


def run(*command: str | Path, cwd: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; output and errors come as one text."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def succeed(*command: str | Path, cwd: Path, **changes: str) -> str:
    """Returns the output of a command. Raises AssertionError when it fails."""
    done = run(*command, cwd=cwd, **changes)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


def parley(*arguments: str, cwd: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Runs the template's own command, which is not installed here."""
    return run(sys.executable, "-m", "parley", *arguments, cwd=cwd, PYTHONPATH=str(ROOT), **changes)


def interpreter(version: str) -> str:
    """Finds Python of this version, also where pyenv keeps it; without one, returns the one that runs the tests."""
    done = run("uv", "python", "find", "--no-project", "--no-python-downloads", version, cwd=ROOT)
    if done.returncode == 0:
        return done.stdout.splitlines()[-1]
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(kept[-1]) if kept else sys.executable
