"""Tests that the checks of variants find what they are there for: each defect is planted once, and must be found."""

import json
import re
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from checks import (
    Check,
    Project,
    containers,
    contracts,
    dependencies,
    imports,
    migrations,
    nothing_left_over,
    style,
    suite,
    types,
)
from conftest import Render
from manifest import DEPLOYED, manifest
from matrix import QUESTIONS
from residue import names
from test_variants import in_its_own_environment

pytestmark = [pytest.mark.deep, pytest.mark.slow]
Plant = Callable[[Path], None]
OPEN_ROUTE = """
from fastapi import APIRouter

router = APIRouter(prefix="/planted", tags=["planted"])


@router.get("")
async def planted() -> str:
    return "open to all"
"""
REVISION = '''"""planted"""

revision = "{name}"
down_revision = "base_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
'''


def red(check: Check, project: Project) -> str:
    """Returns what the check found, which must be something."""
    with pytest.raises(AssertionError) as found:
        check(project)
    return str(found.value)


def only(*tests: str) -> Check:
    """Returns a check by a part of the suite; every run of the whole suite includes it."""
    return lambda project: suite(project, *(f"tests/{test}" for test in tests))


def file(name: str, text: str) -> Plant:
    return lambda project: _write(project / name, text)


def change(name: str, old: str, new: str) -> Plant:
    def plant(project: Path) -> None:
        text = (project / name).read_text(encoding="utf-8")
        assert old in text
        _write(project / name, text.replace(old, new, 1))

    return plant


def two_revisions(project: Path) -> None:
    """Writes two revisions that follow the same one."""
    for name in ("planted_one", "planted_other"):
        _write(project / "alembic" / "versions" / "base" / f"{name}.py", REVISION.format(name=name))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


SMALL: dict[str, Any] = {"features": ["chat"], "ai_providers": []}
"""Chooses a project whose checks take little time."""
DEFECTS: dict[str, tuple[Plant, Check, str]] = {
    "an import of nothing": (file("app/planted.py", "import os\n"), style, "planted"),
    "a file that needs formatting": (file("app/planted.py", "x = [1,\n 2]\n"), style, "planted"),
    "a wrong type": (file("app/planted.py", "size: int = 'large'\n"), types, "planted"),
    "a layer that looks up": (file("app/core/planted.py", "import app.services\n"), contracts, "planted"),
    "a circle of imports": (
        change("app/core/errors.py", "\nclass ", "\nimport app.core.security  # noqa: E402\n\n\nclass "),
        contracts,
        "No circle of imports BROKEN",
    ),
    "a dependency that is not named": (file("app/planted.py", "import numpy\n"), dependencies, "numpy"),
    "a module that nothing imports": (file("app/planted.py", "SIZE = 1\n"), nothing_left_over, "imported by nothing"),
    "a module that cannot be imported": (file("app/planted.py", "raise OSError\n"), imports, "planted"),
    "a test that cannot be imported": (file("tests/test_planted.py", "import app.none\n"), imports, "app.none"),
    "Jinja in a Python file": (
        file("app/models/planted.py", 'NOTE = "{% if chat %}"\n'),
        nothing_left_over,
        "planted.py has Jinja in it",
    ),
    "an import of what is not there": (
        file("tests/test_planted.py", "from app.services.none import nothing\n"),
        nothing_left_over,
        "which is not there",
    ),
    "a blank file": (file("app/models/planted.py", "\n"), nothing_left_over, "is blank"),
    "an empty folder": (lambda project: (project / "planted").mkdir(), nothing_left_over, "planted is empty"),
    "a route without authentication": (
        file("app/api/v1/planted.py", OPEN_ROUTE),
        only("integration/test_sweeps.py::test_every_path_is_closed_without_a_token"),
        "/api/v1/planted",
    ),
    "a setting that nothing reads": (
        change("app/core/config.py", "    ai_model: str", "    planted: int = 1\n    ai_model: str"),
        only("unit/test_settings.py"),
        "test_something_reads_it[planted]",
    ),
    "a setting that is not documented": (
        change(".env.example", "#DEMO_MODEL_DELAY", "# DEMO_MODEL_DELAY"),
        only("unit/test_settings.py"),
        "test_the_example_states_every_default",
    ),
    "a second newest revision in a branch": (
        two_revisions,
        only("integration/test_migrations.py::test_every_branch_has_one_newest_revision"),
        "test_every_branch_has_one_newest_revision",
    ),
    "a model that its migration does not make": (
        change("app/models/user.py", "    full_name: ", "    planted: Mapped[str | None]\n    full_name: "),
        migrations,
        "planted",
    ),
    "a test that is left out": (
        change("tests/unit/test_history.py", "\ndef test", "\n@pytest.mark.skip\ndef test"),
        only("unit/test_history.py"),
        "SKIPPED [",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(defect: str, render: Render) -> None:
    plant, check, words = DEFECTS[defect]
    project = Project(render(**SMALL))
    check(project)
    plant(project.folder)
    assert words in red(check, project)


def test_a_feature_that_imports_one_above_it_is_found(render: Render) -> None:
    project = Project(render(features=["chat", "agents"], ai_providers=[]))
    contracts(project)
    file("app/services/chat/planted.py", "import app.services.agents.settings\n")(project.folder)
    assert "A feature imports only those that it needs BROKEN" in red(contracts, project)


NOT_SEEN = {
    **dict.fromkeys(
        ("aiosqlite", "alembic", "asyncpg", "email-validator", "python-multipart"), "integration/test_auth.py"
    ),
    "tzdata": "unit/test_tools.py",
}
"""Maps what deptry does not miss, since a library imports it or a folder has its name, to the test that misses it in an
environment of its own."""


def bare(requirement: str) -> str:
    return re.split(r"[\[>]", requirement)[0]


def test_every_dependency_that_is_dropped_is_missed(default_project: Path, tmp_path: Path) -> None:
    for requirement in Project(default_project).requirements:
        if bare(requirement) not in NOT_SEEN:
            project = Project(shutil.copytree(default_project, tmp_path / bare(requirement)))
            change("pyproject.toml", f'    "{requirement}",\n', "")(project.folder)
            found = red(dependencies, project)
            assert "DEP00" in found or f"nothing names {bare(requirement)}" in found, requirement


def test_a_dependency_that_is_not_seen_is_missed_in_an_environment_of_its_own(render: Render) -> None:
    folder = render(features=["chat", "agents"], ai_providers=[])
    whole = (folder / "pyproject.toml").read_text(encoding="utf-8")
    for requirement in Project(folder).requirements:
        if test := NOT_SEEN.get(name := bare(requirement)):
            change("pyproject.toml", f'    "{requirement}",\n', "")(folder)
            project = in_its_own_environment(Project(folder))
            said = red(only(test), project)
            assert name.replace("-", "_") in said.replace("-", "_")
            _write(folder / "pyproject.toml", whole)


@pytest.mark.parametrize(("question", "value", "pattern"), manifest())
def test_a_line_that_the_manifest_lacks_is_missed(
    question: str, value: str, pattern: str, render: Render, rendered: Callable[[str], Path]
) -> None:
    """Asserts that a check notices the files of a value that was not chosen."""
    many = QUESTIONS.many(question)
    project = render(**{**DEPLOYED, question: without(question, value)})
    whole = rendered(json.dumps({**DEPLOYED, question: QUESTIONS.choices(question) if many else value}))
    for name in names(whole):
        if name.startswith(pattern):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(whole / name, project / name)
    assert noticed(Project(project)), f"no check notices that {pattern} is there without {value}"


def without(question: str, value: str) -> Any:
    """Returns the last other choice, or as many choices as are valid without this one."""
    others = [choice for choice in QUESTIONS.choices(question) if choice != value]
    if not QUESTIONS.many(question):
        return others[-1]
    some = (list(chosen) for size in range(len(others), -1, -1) for chosen in combinations(others, size))
    return next(chosen for chosen in some if not QUESTIONS.refusal(QUESTIONS.row({question: chosen})))


def noticed(project: Project) -> bool:
    """Tells whether one of the checks fails, the quickest first."""
    cases = only("integration/test_sweeps.py::test_every_path_with_an_id_has_a_case")
    for check in (nothing_left_over, containers, dependencies, migrations, imports, types, cases):
        try:
            check(project)
        except AssertionError:
            return True
    return False


def test_a_file_that_the_manifest_leaves_out_wrongly_is_missed(render: Render) -> None:
    """Removes a file that others need, as if it went with a feature that is not chosen."""
    project = Project(render(features=[]))
    (project.folder / "app" / "core" / "retries.py").unlink()
    assert noticed(project)
