"""A copy of the template as it stands, and projects made from it."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plumbum.cmd
import pytest
import yaml
from processes import ROOT

if TYPE_CHECKING:
    from pytest_copie.plugin import Copie, Result

if not shutil.which("git"):
    # pytest-copie looks for git when it is imported, and calls it in updates only, which no test here makes.
    plumbum.cmd.__dict__["git"] = plumbum.local[sys.executable]

pytest_plugins = ["pytest_copie.plugin"]
Render = Callable[..., Path]
PARTS = ("extensions", "template")
QUESTIONS: dict[str, Any] = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))


def pytest_configure() -> None:
    """Keep a developer's settings of Copier and Git out of every test and every process that a test starts."""
    os.environ["GIT_CONFIG_GLOBAL"] = os.devnull
    os.environ["GIT_CONFIG_NOSYSTEM"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _no_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = tmp_path_factory.mktemp("copier") / "settings.yml"
    settings.write_text("{}\n")
    os.environ["COPIER_SETTINGS_PATH"] = str(settings)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template in a folder without history: rendering it needs no commit and no tag."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copy2(ROOT / "copier.yml", folder)
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", ".venv", ".env"))
    return folder


@pytest.fixture
def render(copie: "Copie", template: Path) -> Render:
    """Render a project from answers; those that are not given take their defaults."""

    def rendered(**answers: Any) -> Path:
        return checked(copie.copy(answers, template_dir=template), answers)

    return rendered


@pytest.fixture(scope="session")
def default_project(copie_session: "Copie", template: Path) -> Path:
    """A project with the default answers, for tests that only look at it."""
    return checked(copie_session.copy(template_dir=template), {})


def checked(result: "Result", answers: dict[str, Any]) -> Path:
    """Copier ignores keys that are no questions, and pytest-copie keeps exceptions to itself."""
    assert result.exception is None, repr(result.exception)
    assert answers.items() <= result.answers.items()
    assert result.project_dir is not None
    return result.project_dir
