"""Provides a copy of the template as it stands, and projects made from it."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import plumbum.cmd
import pytest
from matrix import MATRIX, Variant
from processes import ROOT
from proofs import Proofs, folder_of_proofs
from releases import make_template
from rendering import quick
from servers import Project
from services import REDIS, REQUIRED, SERVICES, database, databases, unreachable
from small import make_small
from table import Table

if TYPE_CHECKING:
    from pytest_copie.plugin import Copie, Result

if not shutil.which("git"):
    # pytest-copie looks for git when it is imported, and calls it in updates only, which no test here makes.
    plumbum.cmd.__dict__["git"] = plumbum.local[sys.executable]

pytest_plugins = ["pytest_copie.plugin"]
Render = Callable[..., Path]
PARTS = ("extensions", "parley", "template")
FILES = ("LICENSE", "README.md", "copier.yml", "pyproject.toml")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--variant", action="append", metavar="NAME", help="a variant of the matrix, or `all` of them")
    parser.addoption("--random", type=int, metavar="N", help="how many variants with random answers")
    parser.addoption("--seed", type=int, default=0, help="seed of the random answers")
    parser.addoption("--full", action="store_true", help="as many and as long streams as a server must bear")


def pytest_configure(config: pytest.Config) -> None:
    """Keeps a developer's settings of Copier and Git out of every test and every process that a test starts."""
    os.environ["GIT_CONFIG_GLOBAL"] = os.devnull
    os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
    if REQUIRED and (missing := unreachable()):
        raise pytest.UsageError(f"REQUIRE_SERVICES=1, but {' and '.join(missing)} cannot be reached: start it.")
    if not hasattr(config, "workerinput") and (config.option.variant or config.option.random):
        told = by_chance(config) if config.option.random else chosen(config)
        config.pluginmanager.register(Table({variant.name: variant for variant in told}))


def pytest_report_header() -> str:
    missing = unreachable()
    return "services: " + ", ".join(f"{name} {'unreachable' if name in missing else 'reachable'}" for name in SERVICES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest tests first, so that at the end none runs alone."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/test_variants.py::test_a_variant"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames:
        metafunc.parametrize("variant", chosen(metafunc.config), ids=lambda variant: variant.name)
    if "random_variant" in metafunc.fixturenames:
        metafunc.parametrize("random_variant", by_chance(metafunc.config), ids=lambda variant: variant.name)
    if "typed_variants" in metafunc.fixturenames:
        told = by_chance(metafunc.config) if metafunc.config.option.random else chosen(metafunc.config)
        metafunc.parametrize("typed_variants", [told], ids=["types"])


def chosen(config: pytest.Config) -> list[Variant]:
    """Returns the variants that `--variant` names, or the default one. Raises UsageError."""
    names = config.option.variant or ["default"]
    variants = {variant.name: variant for variant in MATRIX.variants}
    if names == ["all"]:
        return MATRIX.variants
    if unknown := [name for name in names if name not in variants]:
        raise pytest.UsageError(f"There is no variant {unknown[0]}; `--list` names them all.")
    return [variants[name] for name in names]


def by_chance(config: pytest.Config) -> list[Variant]:
    return MATRIX.random(config.option.random or 2, config.option.seed)


@pytest.fixture(scope="session", autouse=True)
def _no_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = tmp_path_factory.mktemp("copier") / "settings.yml"
    settings.write_text("{}\n")
    os.environ["COPIER_SETTINGS_PATH"] = str(settings)


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a git repository of the template's releases."""
    return make_template(tmp_path_factory.mktemp("released"))


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a repository of a few files, in which a test can make releases."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ada@example.com")
    return make_small(tmp_path)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies the template to a folder without history: rendering it and installing its command needs no commit."""
    folder = tmp_path_factory.mktemp("template")
    for name in FILES:
        shutil.copy2(ROOT / name, folder)
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", ".venv", ".env"))
    return folder


@pytest.fixture(scope="session")
def proofs(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Proofs:
    return Proofs(folder_of_proofs(tmp_path_factory.getbasetemp().parent / f"proofs-{testrun_uid}"))


@pytest.fixture(scope="session")
def rendered(copie_session: "Copie", template: Path) -> Callable[[str], Path]:
    """Returns a function that renders the project of some answers, given as JSON, once: no test may change it."""

    @cache
    def project(answers: str) -> Path:
        told = json.loads(answers)
        with quick():
            return checked(copie_session.copy(told, template_dir=template), told)

    return project


@pytest.fixture
def render(rendered: Callable[[str], Path], tmp_path: Path) -> Render:
    """Returns a function that makes a project from answers; those that are not given take their defaults."""

    def made(**answers: Any) -> Path:
        return shutil.copytree(rendered(json.dumps(answers)), tmp_path / f"rendered-{uuid4().hex[:8]}" / "project")

    return made


@pytest.fixture(scope="session")
def default_project(rendered: Callable[[str], Path]) -> Path:
    """Renders a project with the default answers, for tests that do not change it."""
    return rendered("{}")


def checked(result: "Result", answers: dict[str, Any]) -> Path:
    """Returns the project's folder. Raises AssertionError for an error of Copier, which pytest-copie keeps to itself,
    and for an answer to no question, which Copier ignores."""
    assert result.exception is None, repr(result.exception)
    assert answers.items() <= result.answers.items()
    assert result.project_dir is not None
    return result.project_dir


@pytest.fixture(scope="session")
def folder(rendered: Callable[[str], Path]) -> Path:
    [largest] = [variant for variant in MATRIX.variants if variant.name == "largest"]
    return rendered(json.dumps(largest.answers))


@pytest.fixture
def cluster(folder: Path) -> Iterator[Project]:
    """Prepares the largest variant for servers on PostgreSQL with Redis."""
    assert "postgresql" in databases(), "PostgreSQL is needed: start it, or set TEST_DATABASE_URL"
    with database("postgresql") as url:
        yield Project(folder, DATABASE_URL=url, REDIS_URL=REDIS, REDIS_PREFIX=f"faults-{uuid4().hex}")


@pytest.fixture
def single(folder: Path) -> Iterator[Project]:
    """Prepares the largest variant for a server on SQLite, without Redis."""
    with database("sqlite") as url:
        yield Project(folder, DATABASE_URL=url)


@pytest.fixture(params=["sqlite", "postgresql"])
def alone(request: pytest.FixtureRequest, folder: Path) -> Iterator[Project]:
    """Prepares the largest variant for a server without Redis, on SQLite and on PostgreSQL."""
    with database(request.param) as url:
        yield Project(folder, DATABASE_URL=url)
