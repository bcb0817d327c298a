"""Tests that a command in a sentence can be pasted where the sentence was printed, and does what the sentence says."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli import _commands
from app.core.commands import _script
from tests.conftest import ROOT
from tests.integration.conftest import Project

SCRIPT = f"#!{sys.executable}\nfrom app.cli import main\nmain()\n"
NAME = _script() or ""
PYTHON = Path(sys.executable).parent
CALLED = {
    "by its module": [sys.executable, "-m", "app.cli"],
    "by its module with the environment on the PATH": ["python", "-m", "app.cli"],
    "by its name": [NAME],
    "by its path": ["bin/" + NAME],
    "by uv": ["uv", "run", NAME],
    "by uv and its module": ["uv", "run", "python", "-m", "app.cli"],
}
SAID = {
    "by its module with the environment on the PATH": "python -m app.cli db upgrade",
    "by its name": f"{NAME} db upgrade",
    "by uv": f"uv run {NAME} db upgrade",
    "by uv and its module": "uv run python -m app.cli db upgrade",
}


def subcommands() -> dict[str, set[str]]:
    """Returns the names of the commands, each with those of its own subcommands."""
    group: Any = typer.main.get_command(_commands())
    return {name: {*getattr(found, "commands", {})} for name, found in group.commands.items()}


def sentences(path: Path) -> Iterator[str]:
    """Yields the texts of a module that somebody may read while it runs, and the help of commands."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unread = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr():
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            case ast.Constant(value=str(text)) if id(node) not in unread:
                yield text
            case ast.FunctionDef(decorator_list=[ast.Call(func=ast.Attribute(attr="command")), *_]):
                yield ast.get_docstring(node) or ""


def advised(path: Path) -> Iterator[str]:
    """Yields the arguments that a module completes to a command."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="full_command"), args=[argument]):
                first = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
                yield str(ast.literal_eval(first))


def test_no_sentence_names_half_a_command() -> None:
    names = "|".join(sorted(subcommands()))
    half = re.compile(rf"`(?:{names})(?: [^`]*)?`|\brun (?:{names}) ")
    modules = [*(ROOT / "app").rglob("*.py"), *(ROOT / "tests").glob("*.py"), ROOT / "alembic" / "env.py"]
    found = {(path.name, text) for path in modules for text in sentences(path) if half.search(text)}
    files = [ROOT / name for name in (".env.example", "compose.yaml", "Dockerfile", ".copier-answers.yml")]
    found |= {(path.name, text) for path in files if path.exists() for text in half.findall(path.read_text("utf-8"))}
    assert found == set()


def test_every_command_that_is_named_exists() -> None:
    known = subcommands()
    named = {text for path in (ROOT / "app").rglob("*.py") for text in advised(path)}
    assert len(named) > 5
    for text in named:
        name, *rest = text.split()
        assert name in known, text
        assert not known[name] or rest[0] in known[name], text


@pytest.fixture
def called(request: pytest.FixtureRequest, project: Project) -> tuple[list[str], dict[str, str]]:
    """Returns how the project's command is called, and the environment of that shell."""
    folder = project.folder / "bin"
    folder.mkdir()
    (folder / NAME).write_text(SCRIPT, encoding="utf-8")
    (folder / NAME).chmod(0o755)
    env = project.environment(PYTHONPATH=str(project.folder), UV_NO_SYNC="1", UV_PROJECT_ENVIRONMENT=sys.prefix)
    on_path = {"by its name": folder, "by uv": folder, "by its module with the environment on the PATH": PYTHON}
    if added := on_path.get(request.param):
        env["PATH"] = f"{added}{os.pathsep}{env['PATH']}"
    return CALLED[request.param], env


@pytest.mark.parametrize("called", CALLED, indirect=True)
def test_the_command_of_a_sentence_can_be_pasted(
    request: pytest.FixtureRequest, project: Project, called: tuple[list[str], dict[str, str]]
) -> None:
    program, env = called

    def run(command: list[str], typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=project.folder, env=env, input=typed, capture_output=True, text=True, check=False
        )

    create = [*program, "users", "create", "ada@example.com"]
    [sentence] = run(create, "a long enough phrase\n").stderr.splitlines()
    [advice] = re.findall("`(.+?)`", sentence)
    assert advice == SAID.get(request.node.callspec.params["called"], advice)
    pasted = run(["/bin/bash", "-c", advice])
    assert pasted.returncode == 0, pasted.stderr
    assert "Created the user" in run(create, "a long enough phrase\n").stdout


def test_a_fresh_copy_is_led_to_a_server_by_its_own_sentences(project: Project) -> None:
    """Pastes what each sentence says, until the command that began succeeds."""
    env = project.environment(SECRET_KEY=None)
    begun = [*project.command("users", "create", "ada@example.com")]
    pasted: list[str] = []
    for _ in range(5):
        typed = "a long enough phrase\n"
        done = subprocess.run(
            begun, cwd=project.folder, env=env, input=typed, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            break
        [advice] = re.findall("`(.+?)`", done.stderr)
        pasted.append(advice)
        subprocess.run(["/bin/bash", "-c", advice], cwd=project.folder, env=env, capture_output=True, check=True)
    assert [command.rpartition("app.cli ")[2] for command in pasted] == ["init", "db upgrade"]
