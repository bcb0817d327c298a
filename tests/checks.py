"""What a project must pass as it was rendered. A check raises AssertionError with what it found."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import overlay
import yaml
from deployment import deployment
from distributions import unnamed
from manifest import manifest
from matrix import QUESTIONS
from processes import SCRIPTS, succeed
from residue import files, residue
from services import database, databases, unreachable

SECRET = "only-for-tests-0123456789-abcdefgh"
CODE = ("alembic", "app", "tests")
IMPORT_ALL = """
import pkgutil, app
for module in pkgutil.walk_packages(app.__path__, "app."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
"""
TAKE_THREADS = """
from inspect import isasyncgenfunction, iscoroutinefunction, isfunction
from fastapi.routing import iter_route_contexts
from app.core.config import Settings
from app.main import create_app

def called(dependant):
    for found in dependant.dependencies if dependant else ():
        yield found.call
        yield from called(found)

routes = [context.original_route for context in iter_route_contexts(create_app(Settings()).routes)]
functions = {found for route in routes for found in called(getattr(route, "dependant", None)) if isfunction(found)}
assert functions
blocking = {found for found in functions if not (iscoroutinefunction(found) or isasyncgenfunction(found))}
print(*sorted(found.__name__ for found in blocking))
"""
"""Names the dependencies that are not `async`: each costs a request the time of a thread."""
OF_PROVIDERS = (
    "app/services/speech/providers/",
    *(pattern for question, _, pattern in manifest() if question in {"ai_providers", "speech_providers"}),
    *(f"tests/{name}" for name in overlay.of_providers()),
)
"""Files that an answer about providers decides: nothing imports them by name."""
KILLS = {
    *("test_chat_processes.py", "test_takeovers.py", "test_worker.py"),
    *(f"test_telemetry{part}.py" for part in ("", "_agents", "_chat", "_models")),
}
"""Dear ones, since they start and kill processes. The largest variant is put to them: it has the code of all others."""
OF_AN_EXTRA = re.compile(r"could not import '(espeakng_loader|pocketsphinx)'")
"""Why the test of speech without a provider is left out."""
OF_POSTGRESQL = re.compile(r"got empty parameter set for \(database_url\)")
"""Why tests of PostgreSQL alone are left out where it does not answer."""
Check = Callable[["Project"], object]


@dataclass(frozen=True)
class Project:
    folder: Path
    scripts: Path = SCRIPTS
    """Where the programs of its environment are: the one that all share, unless it has one of its own."""
    has_extras: bool = True
    """Whether its environment has every extra, without which tests of what an extra brings are left out."""

    @property
    def answers(self) -> dict[str, Any]:
        return yaml.safe_load((self.folder / ".copier-answers.yml").read_text(encoding="utf-8"))

    @property
    def described(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def requirements(self) -> list[str]:
        """What it needs to run, as pyproject.toml says it."""
        return self.described["project"]["dependencies"]

    def succeed(self, program: str, *arguments: str, **settings: str) -> str:
        path = f"{self.scripts}{os.pathsep}{os.environ['PATH']}"
        return succeed(self.scripts / program, *arguments, cwd=self.folder, PATH=path, COLUMNS="200", **settings)

    def fingerprint(self) -> str:
        """The same for the same code and the same dependencies, whatever else was answered."""
        return self._digest(self._code(), self.requirements)

    def modules(self) -> str:
        """The same for the same Python files, but for those of providers: residue.py sees to it that nothing imports
        one by name, so that without it the others do as they did with it, and the largest variant has them all."""
        chosen = [
            path for path in self._code() if path.suffix == ".py" and not self._place(path).startswith(OF_PROVIDERS)
        ]
        return self._digest(chosen, [])

    def size(self) -> int:
        return len(self._code())

    def _code(self) -> list[Path]:
        return [path for path in files(self.folder) if path.relative_to(self.folder).parts[0] in CODE]

    def _place(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _digest(self, paths: list[Path], needed: list[str]) -> str:
        digest = hashlib.sha256(json.dumps([needed, self.described["tool"]]).encode())
        for path in paths:
            digest.update(f"{self._place(path)}\0".encode() + path.read_bytes())
        return digest.hexdigest()[:16]


def nothing_left_over(project: Project) -> None:
    found = residue(project.folder, project.answers, QUESTIONS)
    assert not found, "\n".join(found)


def style(project: Project) -> None:
    project.succeed("ruff", "check", "--no-cache")
    project.succeed("ruff", "format", "--check", "--no-cache")


def containers(project: Project) -> None:
    """Its image, compose.yaml and manifests, as far as it has them."""
    deployment(project.folder)


def dependencies(project: Project) -> None:
    project.succeed("deptry", ".")
    found = list(unnamed(project.folder, project.described))
    assert not found, "\n".join(found)


def contracts(project: Project) -> None:
    project.succeed("lint-imports", "--no-cache")


def imports(project: Project) -> None:
    """Every module of the application and of its tests."""
    project.succeed("python", "-c", IMPORT_ALL, SECRET_KEY=SECRET)
    project.succeed("python", "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses=0", "--collect-only")


def dependencies_without_threads(project: Project) -> None:
    """Of the template's own; what its users write is theirs."""
    assert not project.succeed("python", "-c", TAKE_THREADS, SECRET_KEY=SECRET).split()


def types(project: Project) -> None:
    types_of({"project": project})


def types_of(projects: Mapping[str, Project]) -> None:
    """Of many in one run, since most of its time goes into the libraries, which are the same for all."""
    with tempfile.TemporaryDirectory() as folder:
        for name, project in projects.items():
            for part in CODE:
                shutil.copytree(project.folder / part, Path(folder, name, part))
        Path(folder, "pyrightconfig.json").write_text(json.dumps(_checked_together(projects)), encoding="utf-8")
        Project(Path(folder)).succeed("pyright")


def _checked_together(projects: Mapping[str, Project]) -> dict[str, Any]:
    """Each project's own settings, which are the same but for the folder."""
    told = {name: project.described["tool"]["pyright"] for name, project in projects.items()}
    return {
        **next(iter(told.values())),
        **{key: [f"{name}/{path}" for name, own in told.items() for path in own[key]] for key in ("include", "strict")},
        "executionEnvironments": [{"root": name} for name in projects],
    }


def migrations(project: Project) -> None:
    """On a database of each kind that was made by them, nothing is left to be made."""
    for kind in databases():
        with database(kind) as url:
            for command in (("upgrade", "heads"), ("check",)):
                project.succeed("python", "-m", "alembic", *command, SECRET_KEY=SECRET, DATABASE_URL=url)


def suite(project: Project, *arguments: str, **settings: str) -> int:
    """Returns how many tests of its own it passed. Raises AssertionError when one failed or was left out."""
    command = ("python", "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses=0", "-rs")
    said = project.succeed(*command, *arguments, **settings)
    return passed(said, has_extras=project.has_extras, has_services=settings.get("REQUIRE_SERVICES") != "")


def passed(said: str, *, has_extras: bool, has_services: bool = True) -> int:
    """Reads a run of pytest with `-rs`: how many tests passed.

    Raises AssertionError where one was left out although every service is there, but for lack of an extra.
    """
    [number] = re.findall(r"(\d+) passed", said)
    reasons = ((OF_AN_EXTRA, has_extras), (OF_POSTGRESQL, has_services))
    lacking = [reason for reason, is_there in reasons if not is_there]
    skipped = re.findall(r"(?m)^SKIPPED.*", said)
    left_out = [line for line in skipped if not any(reason.search(line) for reason in lacking)]
    assert unreachable() or not (left_out or re.search(r"\d+ (xfailed|xpassed|deselected)", said)), said
    return int(number)


def chosen_tests(project: Path, left_out: Set[str] = frozenset(), told: str = "") -> list[str]:
    """Those of units, those that few variants are put to, and of the others those that have this in them."""
    files = {path.name: path.read_text("utf-8") for path in (project / "tests" / "integration").glob("test_*.py")}
    chosen = {name for name, text in files.items() if name in KILLS or re.search(told, text)}
    return ["tests/unit", *(f"tests/integration/{name}" for name in sorted(chosen - left_out))]


OF_FILES: tuple[Check, ...] = (style, nothing_left_over, dependencies, containers)
OF_CODE: tuple[Check, ...] = (contracts, imports, dependencies_without_threads)
"""Pass or fail with what `modules` is of."""
