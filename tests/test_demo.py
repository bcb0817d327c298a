"""Tests what the README promises to a newcomer, in real processes."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Render
from processes import ROOT, environment, run, succeed

pytestmark = pytest.mark.slow
NOX = (sys.executable, "-m", "nox", "--noxfile", str(ROOT / "noxfile.py"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Runs the README's demo, on another port and in another folder."""
    command = [*NOX, "--envdir", str(tmp_path), "-s", "demo", "--", f"--port={free_port()}"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def lines_to_try(process: subprocess.Popen[str]) -> str:
    """Returns the shell commands that the demo prints once it serves, the last of which streams a reply."""
    said: list[str] = []
    commands: list[str] = []
    assert process.stdout
    for line in process.stdout:
        said.append(line)
        if commands or line.startswith("curl"):
            commands.append(line)
        if not line.strip() and "chat/messages/stream" in "".join(commands):
            return "".join(commands)
    raise AssertionError("".join(said))


def server_of(process: subprocess.Popen[str]) -> int:
    """Returns the process id of the server that comes next."""
    assert process.stdout
    return next(int(found[1]) for line in process.stdout if (found := re.match(r"SERVER=(\d+)", line)))


@pytest.mark.skipif(
    not shutil.which("curl") and os.environ.get("REQUIRE_SERVICES") != "1", reason="the README's lines are for curl"
)
def test_demo_answers_a_streamed_chat_and_ends_with_ctrl_c(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    register, *rest = lines_to_try(demo).partition("\n\n")
    said = succeed("bash", "-euo", "pipefail", "-c", "".join((register, *rest)), cwd=tmp_path)
    assert said.count("event: message.delta") > 20
    assert "event: message.completed" in said
    assert "Hello! Who are you?" in said
    os.kill(server_of(demo), signal.SIGTERM)
    assert server_of(demo)
    said = succeed("bash", "-euo", "pipefail", "-c", "".join(rest), cwd=tmp_path)
    assert "event: message.completed" in said, "the account is gone"
    os.killpg(demo.pid, signal.SIGINT)
    rest, _ = demo.communicate(timeout=30)
    assert demo.returncode == 0, rest
    assert "Traceback" not in rest


def test_demo_says_that_a_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(*NOX, "--envdir", tmp_path, "-s", "demo", "--", f"--port={port}", cwd=ROOT)
    assert done.returncode == 1
    assert f"Port {port} cannot be used" in done.stdout
    assert "Traceback" not in done.stdout


def test_adding_a_dependency_keeps_the_list_in_order(render: Render) -> None:
    project = render()
    succeed("uv", "add", "--quiet", "--no-sync", "jinja2", cwd=project)
    described = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    names = [re.split(r"[\[>]", requirement)[0] for requirement in described["project"]["dependencies"]]
    assert "jinja2" in names
    assert names == sorted(names)
