"""Runs the project's command as a user does, in a copy of the project that the test may change.

A subprocess is the real thing and costs a second; most tests of migrations run the command in the process of the test.
"""

import compileall
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    chdir,
    contextmanager,
    redirect_stderr,
    redirect_stdout,
)
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest import mock

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.cli import main
from app.core import config, migrations
from tests.conftest import ROOT, environment
from tests.integration.terminal import Terminal
from tests.server import Server, started

MIGRATIONS = ("alembic", "alembic.ini")
PARTS = (*MIGRATIONS, ".env.example", "app", "pyproject.toml")
OWN = Path("alembic", "versions", "project")
ONE_AFTER_ANOTHER = """
import json, sys
from app.cli import main
for command in json.loads(sys.argv.pop()):
    sys.argv[1:] = command
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""
"""Runs commands in one process, since importing everything takes a second."""


def branch(name: str) -> set[str]:
    """Returns the revisions of one branch, including those that were written since the project was created."""
    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    return {found.revision for found in script.walk_revisions() if name in found.branch_labels}


def newest(name: str) -> str:
    """Returns the newest revision of a branch."""
    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    [head] = [found for found in script.get_revisions(tuple(script.get_heads())) if name in found.branch_labels]
    return head.revision


def copied(parts: Iterable[str], folder: Path) -> Path:
    folder.mkdir()
    for part in parts:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, folder / part)
    return folder


def remove_own_revisions(folder: Path) -> None:
    """Removes the project's own revisions, except for the first one, which every project has."""
    for path in (folder / OWN).glob("*.py"):
        if not path.name.startswith("project_0001_"):
            path.unlink()


@dataclass(frozen=True)
class Project:
    folder: Path

    @property
    def revisions(self) -> list[Path]:
        """Lists the revisions of the project's own branch that were written since it was copied."""
        copied = {path.name for path in (ROOT / OWN).iterdir()}
        written = [path for path in (self.folder / OWN).glob("*.py") if path.name not in copied]
        return sorted(written, key=lambda path: path.stat().st_ctime)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "app.cli", *arguments]

    def environment(self, **settings: str | None) -> dict[str, str]:
        """Returns environment variables with these settings; one that is None is not set."""
        every = {**environment(DATABASE_URL=f"sqlite:///{self.folder}/app.db"), **settings}
        return {name: value for name, value in every.items() if value is not None}

    def at_terminal(self, *arguments: str, **settings: str | None) -> Terminal:
        return Terminal(self.command(*arguments), self.folder, self.environment(**settings))

    def run(self, *arguments: str, typed: str = "", **settings: str | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(**settings),
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def run_all(self, *commands: Sequence[str], **settings: str | None) -> str:
        """Runs commands, asserts that none fails, and returns what they print."""
        program = [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(commands)]
        done = subprocess.run(
            program, cwd=self.folder, env=self.environment(**settings), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def succeed(self, *arguments: str, typed: str = "", **settings: str | None) -> str:
        """Runs a command that succeeds, and returns what it prints."""
        done = self.run(*arguments, typed=typed, **settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fail(self, *arguments: str, typed: str = "", **settings: str | None) -> str:
        """Runs a command that fails, and returns the only line that it prints on standard error."""
        done = self.run(*arguments, typed=typed, **settings)
        assert done.returncode == 1, done.stdout
        [line] = done.stderr.splitlines()
        return line


@dataclass(frozen=True)
class InProcess(Project):
    """Runs commands in the process and with the code of the test; only files and migrations come from the copy."""

    def run(self, *arguments: str, typed: str = "", **settings: str | None) -> subprocess.CompletedProcess[str]:
        out, errors = StringIO(), StringIO()
        with self._entered(self.environment(**settings)), redirect_stdout(out), redirect_stderr(errors):
            sys.argv = ["app", *arguments]
            sys.stdin = StringIO(typed)
            with pytest.raises(SystemExit) as ended:
                main()
        status = ended.value.code or 0
        assert isinstance(status, int)
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), errors.getvalue())

    @contextmanager
    def _entered(self, variables: dict[str, str]) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ, variables, clear=True):
            for name in ("argv", "path", "stdin"):
                patch.setattr(sys, name, getattr(sys, name))
            sys.path = [*sys.path]  # Alembic appends to it
            patch.setattr(config, "ROOT", self.folder)
            patch.setattr(config, "ENV_FILE", self.folder / ".env")
            patch.setattr(migrations, "VERSIONS", self.folder / "alembic" / "versions")
            with chdir(self.folder):
                yield


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """Restores Ctrl-C: a shell has its background jobs ignore it, and so would every process that a test starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies the project with its bytecode, which each further copy and each process would have to compile again."""
    folder = copied(PARTS, tmp_path_factory.mktemp("compiled") / "project")
    compileall.compile_dir(folder, quiet=1)
    return folder


@pytest.fixture
def project(compiled: Path, tmp_path: Path) -> Project:
    return Project(shutil.copytree(compiled, tmp_path / "project"))


@pytest.fixture
def in_process(compiled: Path, tmp_path: Path) -> InProcess:
    """Yields a copy of the project whose commands run in the process of the test."""
    return InProcess(shutil.copytree(compiled, tmp_path / "project"))


@pytest.fixture
def prepared(project: Project, migrated_file: Path) -> Project:
    """Adds a migrated SQLite database to the copy."""
    shutil.copy(migrated_file, project.folder / "app.db")
    return project


StartServer = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
def start_server(database_url: str) -> StartServer:
    @asynccontextmanager
    async def start(**settings: str) -> AsyncGenerator[Server]:
        command = [sys.executable, "-m", "app.cli", "serve"]
        async with started(command, ROOT, environment(DATABASE_URL=database_url, **settings)) as server:
            await server.says("Uvicorn running")
            yield server

    return start
