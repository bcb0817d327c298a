"""What a project must pass as it was rendered. A check raises AssertionError with what it found."""

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from matrix import QUESTIONS
from processes import SCRIPTS, succeed
from residue import files, residue
from services import database, databases, unreachable

SECRET = "only-for-tests-0123456789-abcdefgh"
IMPORT_ALL = """
import pkgutil, app
for module in pkgutil.walk_packages(app.__path__, "app."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
"""
Check = Callable[["Project"], object]


@dataclass(frozen=True)
class Project:
    folder: Path
    scripts: Path = SCRIPTS
    """Where the programs of its environment are: the one that all share, unless it has one of its own."""

    @property
    def answers(self) -> dict[str, Any]:
        return yaml.safe_load((self.folder / ".copier-answers.yml").read_text(encoding="utf-8"))

    @property
    def described(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))

    def succeed(self, program: str, *arguments: str, **settings: str) -> str:
        path = f"{self.scripts}{os.pathsep}{os.environ['PATH']}"
        return succeed(self.scripts / program, *arguments, cwd=self.folder, PATH=path, COLUMNS="200", **settings)

    def fingerprint(self, *, dependencies: bool = True) -> str:
        """The same for the same code and the same dependencies, whatever else was answered."""
        digest = hashlib.sha256()
        for path in files(self.folder):
            place = path.relative_to(self.folder)
            if place.parts[0] in {"app", "tests", "alembic"}:
                digest.update(f"{place}\0".encode() + path.read_bytes())
        needed = self.described["project"]["dependencies"] if dependencies else []
        digest.update(json.dumps([needed, self.described["tool"]]).encode())
        return digest.hexdigest()[:16]


def nothing_left_over(project: Project) -> None:
    found = residue(project.folder, project.answers, QUESTIONS)
    assert not found, "\n".join(found)


def style(project: Project) -> None:
    project.succeed("ruff", "check", "--no-cache")
    project.succeed("ruff", "format", "--check", "--no-cache")


def dependencies(project: Project) -> None:
    project.succeed("deptry", ".")


def contracts(project: Project) -> None:
    project.succeed("lint-imports", "--no-cache")


def imports(project: Project) -> None:
    """Every module of the application and of its tests."""
    project.succeed("python", "-c", IMPORT_ALL, SECRET_KEY=SECRET)
    project.succeed("python", "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses=0", "--collect-only")


def types(project: Project) -> None:
    project.succeed("pyright")


def migrations(project: Project) -> None:
    """On a database of each kind that was made by them, nothing is left to be made."""
    for kind in databases():
        with database(kind) as url:
            for command in (("upgrade", "heads"), ("check",)):
                project.succeed("python", "-m", "alembic", *command, SECRET_KEY=SECRET, DATABASE_URL=url)


def suite(project: Project, *arguments: str) -> int:
    """How many tests of its own it passed. Where every service is there, one that is left out counts as a failure."""
    said = project.succeed("python", "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses=0", *arguments)
    [passed] = re.findall(r"(\d+) passed", said)
    assert unreachable() or not re.search(r"\d+ (skipped|xfailed|xpassed|deselected)", said), said
    return int(passed)


OF_FILES: tuple[Check, ...] = (style, nothing_left_over, dependencies)
OF_CODE: tuple[Check, ...] = (contracts, imports, types)
"""Pass or fail with what `fingerprint` is of."""
