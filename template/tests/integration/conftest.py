"""The project's command as a person runs it: a process of its own, in a copy of the project that it may change."""

import asyncio
import compileall
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.conftest import BACKENDS, ROOT, SERVER, _execute, environment
from tests.integration.releases import adopt, make_template
from tests.integration.terminal import Terminal

PARTS = (".env.example", "alembic", "alembic.ini", "app", "pyproject.toml")
OWN = Path("alembic", "versions", "project")


def branch(name: str) -> set[str]:
    """The revisions of one branch, with those that were written since the project was made."""
    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    return {found.revision for found in script.walk_revisions() if name in found.branch_labels}


def newest(name: str) -> str:
    """The revision that a branch ends with."""
    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    [head] = [found for found in script.get_revisions(tuple(script.get_heads())) if name in found.branch_labels]
    return head.revision


def remove_own_revisions(folder: Path) -> None:
    """But for the one that every project begins with."""
    for path in (folder / OWN).glob("*.py"):
        if not path.name.startswith("project_0001_"):
            path.unlink()


@dataclass(frozen=True)
class Project:
    folder: Path

    @property
    def revisions(self) -> list[Path]:
        """Those of the project's own branch that were written since it was copied."""
        copied = {path.name for path in (ROOT / OWN).iterdir()}
        written = [path for path in (self.folder / OWN).glob("*.py") if path.name not in copied]
        return sorted(written, key=lambda path: path.stat().st_ctime)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "app.cli", *arguments]

    def environment(self, **settings: str | None) -> dict[str, str]:
        """A setting that is None is not set at all."""
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

    def succeed(self, *arguments: str, typed: str = "", **settings: str | None) -> str:
        """What the command printed."""
        done = self.run(*arguments, typed=typed, **settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fail(self, *arguments: str, typed: str = "", **settings: str | None) -> str:
        """The one line on standard error that the command ended with."""
        done = self.run(*arguments, typed=typed, **settings)
        assert done.returncode == 1, done.stdout
        [line] = done.stderr.splitlines()
        return line


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With bytecode, which each of the copies and each of their processes would have to make anew."""
    folder = tmp_path_factory.mktemp("compiled")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, folder / part)
    compileall.compile_dir(folder, quiet=1)
    return folder


@pytest.fixture
def project(compiled: Path, tmp_path: Path) -> Project:
    return Project(shutil.copytree(compiled, tmp_path / "project"))


@pytest.fixture
def prepared(project: Project, migrated_file: Path) -> Project:
    """The copy with a SQLite database that is up to date."""
    shutil.copy(migrated_file, project.folder / "app.db")
    return project


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one, with releases v0.1.0 to v0.3.0."""
    if not shutil.which("git") and os.environ.get("REQUIRE_SERVICES") != "1":
        pytest.skip("git is not installed")
    return make_template(tmp_path_factory.mktemp("released") / "template")


@pytest.fixture(scope="session")
def adopted(compiled: Path, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(compiled, tmp_path_factory.mktemp("adopted") / "project")
    adopt(folder, template)
    return folder


@pytest.fixture
def made(adopted: Path, tmp_path: Path) -> Project:
    """The copy as one that was made from that template's first release, and committed."""
    return Project(shutil.copytree(adopted, tmp_path / "project"))


@pytest.fixture(params=BACKENDS)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """The address of a database without tables that is this test's alone."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    name = f"test_{uuid4().hex}"
    asyncio.run(_execute(f"CREATE DATABASE {name}"))
    yield SERVER.set(database=name).render_as_string(False)
    asyncio.run(_execute(f"DROP DATABASE {name} WITH (FORCE)"))
