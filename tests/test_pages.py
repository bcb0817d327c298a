"""Tests that what the manual tells people to type works, and prints what the manual shows."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import lives
import node
import pytest
from conftest import Render
from matrix import QUESTIONS
from pages import MANUAL, PAGES, Block, Step, blocks, files, is_as_shown, run_blocks, steps
from processes import environment, run, succeed
from releases import HERE, commit, git
from servers import free_port
from terminal import converse
from test_load import port_in

SERVED = {"accounts", "agents", "ai-sdk", "chat", "conversations", "openai", "speech", "usage", "websockets"}
"""Names pages that call a server with the access token in `TOKEN`, and may stop it by its process id in `SERVER`."""
ELSEWHERE = {"quick-start", "updating"}
"""Names pages that begin with no project, or with one in git: each has a test of its own below."""
NEXT = "=== next block"
SETTINGS = {
    "ARGON2_MEMORY_KIB": "1024",
    "ARGON2_TIME_COST": "1",
    "DEMO_MODEL_DELAY": "0.01",
    "UV_NO_SYNC": "1",
}
PROGRAMS = {"my-bot": "app.cli", "alembic": "alembic"}
UNTIL_IT_SERVES = (
    "SERVER=$!",
    "trap 'kill $SERVER; wait $SERVER || true' EXIT",
    "grep --quiet --max-count=1 'startup complete' <(tail --pid=$SERVER --follow --lines=+1 served.txt)",
    "until URL=$(grep --only-matching --max-count=1 'http://127.0.0.1:[0-9]*' served.txt)",
    "(: < /dev/tcp/127.0.0.1/${URL##*:}) 2> /dev/null; do sleep 0.1; done",
)
NOT_RUN: dict[tuple[str, str], int] = {
    ("ai-sdk", "a part of a client"): 4,
    ("ai-sdk", "installs what it needs"): 1,
    ("architecture", "a diagram"): 1,
    ("command-line", "a test of the template runs it"): 1,
    ("index", "a test of the demo runs it"): 1,
    ("openai", "installs what it needs"): 1,
    ("openai", "what a file has"): 2,
    ("operating", "needs a PostgreSQL server of its own"): 1,
    ("quick-start", "a test of the demo runs it"): 1,
    ("quick-start", "installs into the Python that is there"): 1,
    ("quick-start", "installs into the home folder"): 1,
    ("platforms", "needs an account"): 1,
    ("telemetry", "installs what it needs"): 1,
    ("telemetry", "what a file has"): 1,
    ("updating", "needs a template that is published"): 1,
    ("updating", "needs repositories to push to"): 1,
    ("updating", "nox -s updates switches features"): 1,
    ("updating", "runs a whole suite; nox -s updates does"): 1,
    ("updating", "what a file has"): 1,
    ("websockets", "a frame of a client"): 1,
    ("websockets", "a frame of the server"): 2,
}
"""Counts the blocks of a page that are not run, with the reason."""
NAMES = [page.stem for page in PAGES if any(block.language == "sh" for block in run_blocks(page))]


def test_what_is_not_run_is_known() -> None:
    found = Counter(
        (page.stem, block.not_run) for page in PAGES for block in blocks(page.read_text("utf-8")) if block.not_run
    )
    assert found == NOT_RUN


@pytest.mark.docs
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ELSEWHERE])
def test_a_page_does_what_it_says(name: str, render: Render, tmp_path: Path) -> None:
    page = MANUAL / f"{name}.md"
    project = prepared(render())
    write_code(files(page), project)
    if name not in SERVED:
        follow(steps(page), project, {}, **SETTINGS)
        return
    with served(project) as (port, process_id):
        write_clients(files(page), project, port)
        signed_in = {} if name == "accounts" else {"TOKEN": token(port), "SERVER": f"{process_id}"}
        follow(steps(page), project, at(port), **SETTINGS, **signed_in, **with_node(files(page), project))


def prepared(project: Path) -> Path:
    """Prepares a project: a command of its name, the packages that all tests share, a secret and a database."""
    succeed("uv", "venv", "--quiet", f"--python={sys.executable}", cwd=project)
    programs = project / ".venv" / "bin"
    [packages] = (project / ".venv").glob("lib/*/site-packages")
    (packages / "shared.pth").write_text(f"{project}\n{sysconfig.get_path('purelib')}\n")
    for name, module in PROGRAMS.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{programs}/python" -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    command = programs / "my-bot"
    succeed(command, "init", cwd=project)
    succeed(command, "db", "upgrade", cwd=project)
    return project


def write_code(written: dict[str, str], project: Path) -> None:
    """Writes the page's files of the application, which must be in the project's style."""
    ours = [path for path in written if path.startswith(("app/", "tests/"))]
    for path in ours:
        (project / path).write_text(written[path], encoding="utf-8")
        for check in (("check",), ("format", "--diff")):
            succeed(sys.executable, "-m", "ruff", *check, "--no-cache", path, cwd=project)


def write_clients(written: dict[str, str], project: Path, port: int) -> None:
    for path, text in written.items():
        if not path.startswith(("app/", "tests/")):
            (project / path).write_text(filled(text, at(port)), encoding="utf-8")


def with_node(written: dict[str, str], project: Path) -> dict[str, str]:
    """Installs the packages that JavaScript needs where a page has some; returns what finds Node."""
    if not any(path.endswith(".mjs") for path in written):
        return {}
    (project / "node_modules").symlink_to(node.install(node.CLIENTS) / "node_modules")
    return {"PATH": f"{node.BIN}{os.pathsep}{environment()['PATH']}"}


@contextmanager
def served(project: Path) -> Iterator[tuple[int, int]]:
    """Serves the project and yields its port and process id. The server must exit with 0."""
    serve = (project / ".venv" / "bin" / "my-bot", "serve", "--port=0")
    told = environment(**SETTINGS)
    with subprocess.Popen(serve, cwd=project, env=told, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        port = port_in(process.stderr)
        rest = Thread(target=process.stderr.read)  # a full pipe would stop the server
        rest.start()
        try:
            yield port, process.pid
        finally:
            process.terminate()
            rest.join()
    assert process.returncode == 0


def token(port: int) -> str:
    """Gets an access token as the page about accounts does, for the pages that begin with one."""
    [register, login] = [step.command.text for step in steps(MANUAL / "accounts.md")][:2]
    script = filled(f"{register}\n{login}\necho\necho $TOKEN", at(port))
    return succeed("bash", "-euc", script, cwd=MANUAL).split()[-1]


def at(port: int) -> dict[str, str]:
    return {"127.0.0.1:8000": f"127.0.0.1:{port}", "my-bot dev": f"my-bot dev --port={port}"}


def filled(text: str, words: dict[str, str]) -> str:
    """Replaces what differs here from what people have."""
    for word, ours in words.items():
        text = text.replace(word, ours)
    return text


def follow(taken: list[Step], folder: Path, words: dict[str, str], **settings: str) -> None:
    """Types the commands into one shell, and compares what each prints with what the page shows."""
    script = filled(f"\necho '{NEXT}'\n".join(typed(step.command) for step in taken), words)
    done = run("bash", "-euc", script, cwd=folder, **settings)
    assert done.returncode == 0, f"{script}\n{done.stdout}"
    for step, said in zip(taken, done.stdout.split(f"{NEXT}\n"), strict=True):
        if step.output is not None and not is_as_shown(step.output, said):
            raise AssertionError(f"{step.command.text}\nprinted\n{said}\nand not\n{step.output.text}")


def typed(block: Block) -> str:
    """Returns the commands of a block. A server runs on until the shell ends; the next block comes once it serves."""
    if not block.background:
        return block.text
    *before, serve = block.text.splitlines()
    return "\n".join([*before, ": > served.txt", f"{serve} > served.txt 2>&1 &", *UNTIL_IT_SERVES])


@pytest.mark.docs
@pytest.mark.slow
def test_what_a_projects_readme_says_of_agents(render: Render) -> None:
    project = prepared(render(features=["chat", "agents"]))
    readme = (project / "README.md").read_text("utf-8")
    [chat] = re.findall(r"(?s)\n## Chat with it\n.*?\n## ", readme)
    [section] = re.findall(r"(?s)\n## Run an agent\n.*?\n## ", readme)
    account, (work, talk, tool) = blocks(chat)[0], blocks(section)
    (project / "app" / "services" / "tools" / "letters.py").write_text(tool.text, encoding="utf-8")
    ask = 'ask "$API/tools?limit=100"'
    with served(project) as (port, _):
        script = f"{account.text}\n{work.text}\n{talk.text}\necho\n{ask}"
        said = succeed("bash", "-euc", filled(script, at(port)), cwd=project)
    *_, completed, reply, tools = re.findall(r"(?m)^(?:data: )?(\{.*\})$", said)
    assert "5" in json.loads(completed)["output"]
    assert [part["result"] for part in json.loads(reply)["parts"] if part["type"] == "tool_call"] == ["5"]
    assert "count_letters" in {tool["name"] for tool in json.loads(tools)["items"]}


@pytest.mark.docs
@pytest.mark.slow
def test_the_quick_start_makes_a_project_and_serves_it(template: Path, tmp_path: Path) -> None:
    asks, *rest = steps(MANUAL / "quick-start.md")
    words = {"<template>": str(template), **at(free_port())}
    answers = {QUESTIONS.asked[name]["help"]: "" for name in ("project_name", "setup")}
    converse("bash", "-euc", filled(asks.command.text, words), cwd=tmp_path, answers=answers, seconds=120)
    follow(rest, tmp_path, words)
    assert (tmp_path / "desk" / "app").is_dir()


@pytest.mark.docs
@pytest.mark.slow
def test_an_update_is_made_and_taken_back(released: Path, tmp_path: Path) -> None:
    update, back = steps(MANUAL / "updating.md")
    project = prepared(lives.render(released, tmp_path / "my-bot", HERE, {}))
    git(project, "init", "--quiet")
    commit(project)
    told = {**SETTINGS, **lives.IDENTITY}
    converse("bash", "-euc", update.command.text, cwd=project, answers={"Update?": "y"}, seconds=120, **told)
    assert git(project, "status", "--porcelain")
    follow([back], project, {}, **told)
    assert not git(project, "status", "--porcelain")
