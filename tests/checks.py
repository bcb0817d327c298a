"""Checks a project as it was rendered. A check raises AssertionError with what it found."""

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
"""Names the dependencies that are not `async`: each takes a thread for every request."""
OF_PROVIDERS = (
    "app/services/speech/providers/",
    *(pattern for question, _, pattern in manifest() if question in {"ai_providers", "speech_providers"}),
    *(f"tests/{name}" for name in overlay.of_providers()),
)
"""Lists the files that an answer about providers decides: nothing imports them by name."""
KILLS = {
    *("test_chat_processes.py", "test_takeovers.py", "test_worker.py"),
    *(f"test_telemetry{part}.py" for part in ("", "_agents", "_chat", "_models")),
}
"""Names costly test files, which start and kill processes. Only the largest variant runs them: it has all the code."""
OF_AN_EXTRA = re.compile(r"could not import '(espeakng_loader|pocketsphinx)'")
"""Matches why the test of speech without a provider is skipped."""
OF_POSTGRESQL = re.compile(r"got empty parameter set for \(database_url\)")
"""Matches why tests that need PostgreSQL are skipped where no server answers."""
Check = Callable[["Project"], object]


@dataclass(frozen=True)
class Project:
    folder: Path
    scripts: Path = SCRIPTS
    """Names the folder of its environment's programs: by default the environment that all projects share."""
    has_extras: bool = True
    """Tells whether its environment has every extra, without which tests of what an extra brings are skipped."""

    @property
    def answers(self) -> dict[str, Any]:
        return yaml.safe_load((self.folder / ".copier-answers.yml").read_text(encoding="utf-8"))

    @property
    def described(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def requirements(self) -> list[str]:
        """Returns the dependencies of pyproject.toml, without those of development."""
        return self.described["project"]["dependencies"]

    def succeed(self, program: str, *arguments: str, **settings: str) -> str:
        path = f"{self.scripts}{os.pathsep}{os.environ['PATH']}"
        return succeed(self.scripts / program, *arguments, cwd=self.folder, PATH=path, COLUMNS="200", **settings)

    def fingerprint(self) -> str:
        """Returns a digest that is the same for the same code and the same dependencies, whatever else was answered."""
        return self._digest(self._code(), self.requirements)

    def modules(self) -> str:
        """Returns a digest of the Python files without those of providers.

        As residue.py checks, nothing imports a provider by name: the other files do the same without it, and the
        largest variant has all of them.
        """
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
    """Checks the Dockerfile, compose.yaml and manifests, as far as the project has them."""
    deployment(project.folder)


def dependencies(project: Project) -> None:
    project.succeed("deptry", ".")
    found = list(unnamed(project.folder, project.described))
    assert not found, "\n".join(found)


def contracts(project: Project) -> None:
    project.succeed("lint-imports", "--no-cache")


def imports(project: Project) -> None:
    """Imports every module of the application and of its tests."""
    project.succeed("python", "-c", IMPORT_ALL, SECRET_KEY=SECRET)
    project.succeed("python", "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses=0", "--collect-only")


def dependencies_without_threads(project: Project) -> None:
    """Checks that none of the template's own dependencies takes a thread; its users may write such ones."""
    assert not project.succeed("python", "-c", TAKE_THREADS, SECRET_KEY=SECRET).split()


def types(project: Project) -> None:
    types_of({"project": project})


def types_of(projects: Mapping[str, Project]) -> None:
    """Checks several projects in one run: most of its time goes into the libraries, which are the same for all."""
    with tempfile.TemporaryDirectory() as folder:
        for name, project in projects.items():
            for part in CODE:
                shutil.copytree(project.folder / part, Path(folder, name, part))
        Path(folder, "pyrightconfig.json").write_text(json.dumps(_checked_together(projects)), encoding="utf-8")
        Project(Path(folder)).succeed("pyright")


def _checked_together(projects: Mapping[str, Project]) -> dict[str, Any]:
    """Merges the settings of the projects, which are the same but for the folder."""
    told = {name: project.described["tool"]["pyright"] for name, project in projects.items()}
    return {
        **next(iter(told.values())),
        **{key: [f"{name}/{path}" for name, own in told.items() for path in own[key]] for key in ("include", "strict")},
        "executionEnvironments": [{"root": name} for name in projects],
    }


def migrations(project: Project) -> None:
    """Checks on a database of each kind that the migrations create all that the models have."""
    for kind in databases():
        with database(kind) as url:
            for command in (("upgrade", "heads"), ("check",)):
                project.succeed("python", "-m", "alembic", *command, SECRET_KEY=SECRET, DATABASE_URL=url)


def suite(project: Project, *arguments: str, **settings: str) -> int:
    """Returns how many of the project's own tests passed. Raises AssertionError when one failed or was skipped."""
    command = ("python", "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses=0", "-rs")
    said = project.succeed(*command, *arguments, **settings)
    return passed(said, has_extras=project.has_extras, has_services=settings.get("REQUIRE_SERVICES") != "")


def passed(said: str, *, has_extras: bool, has_services: bool = True) -> int:
    """Returns how many tests passed, according to the output of `pytest -rs`.

    Raises AssertionError where all services are reachable and a test was skipped for another reason than a missing
    extra or, without `has_services`, a missing PostgreSQL.
    """
    [number] = re.findall(r"(\d+) passed", said)
    reasons = ((OF_AN_EXTRA, has_extras), (OF_POSTGRESQL, has_services))
    lacking = [reason for reason, is_there in reasons if not is_there]
    skipped = re.findall(r"(?m)^SKIPPED.*", said)
    left_out = [line for line in skipped if not any(reason.search(line) for reason in lacking)]
    assert unreachable() or not (left_out or re.search(r"\d+ (xfailed|xpassed|deselected)", said)), said
    return int(number)


def chosen_tests(project: Path, left_out: Set[str] = frozenset(), told: str = "") -> list[str]:
    """Returns the unit tests, KILLS, and the integration tests whose text matches `told`, without `left_out`."""
    files = {path.name: path.read_text("utf-8") for path in (project / "tests" / "integration").glob("test_*.py")}
    chosen = {name for name, text in files.items() if name in KILLS or re.search(told, text)}
    return ["tests/unit", *(f"tests/integration/{name}" for name in sorted(chosen - left_out))]


OF_FILES: tuple[Check, ...] = (style, nothing_left_over, dependencies, containers)
OF_CODE: tuple[Check, ...] = (contracts, imports, dependencies_without_threads)
"""Lists the checks whose result depends only on the files that `Project.modules` digests."""
