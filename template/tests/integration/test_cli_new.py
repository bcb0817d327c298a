"""A slice that is written by the command is as good as one that was written by hand."""

import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.integration.conftest import InProcess, Project

SWEEPS = ("has_a_case", "does_not_exist", "refuses_unknown_fields", "list_is_bounded", "reads_cost")
"""The tests that hold for every path, and tell of this one."""
NOWHERE = {"TEST_DATABASE_URL": "postgresql://postgres@127.0.0.1:1/none", "TEST_REDIS_URL": "redis://127.0.0.1:1"}


@pytest.fixture
def with_tests(project: Project) -> Project:
    shutil.copytree(ROOT / "tests", project.folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    return project


def test_a_slice_passes_its_tests_at_once(with_tests: Project) -> None:
    said = with_tests.succeed("new", "slice", "probe_box")
    for path in ("app/models/probe_box.py", "app/api/v1/probe_boxes.py", "tests/integration/test_probe_boxes.py"):
        assert f"Wrote {path}\n" in said
    [migration] = with_tests.revisions
    assert f"Wrote {migration.relative_to(with_tests.folder)}\n" in said
    check(with_tests, "ruff", "check")
    check(with_tests, "ruff", "format", "--check")
    files = (f"tests/integration/test_{name}.py" for name in ("probe_boxes", "sweeps"))
    told = ("-p", "no:cacheprovider", "--numprocesses=0", "-k", " or ".join(("probe_boxes", *SWEEPS)))
    check(with_tests, "pytest", *files, *told)


def check(project: Project, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=project.folder,
        env=project.environment(**NOWHERE),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["class"], "'class' is a word of Python: choose another name, or another --plural."),
        (["a"], "'as' is a word of Python: choose another name, or another --plural."),
        (["none"], "There is something called None already: choose another name, or another --plural."),
        (["page"], "There is something called Page already"),
        (["cursor"], "There is something called Cursor already"),
        (["database"], "There is something called Database already"),
        (["current_user"], "There is something called CurrentUser already"),
        (["probe", "--plural", "limit"], "There is something called Limit already"),
        (["Note"], "'Note' cannot be a name here"),
        (["../note"], "'../note' cannot be a name here"),
        (["n" * 31], f"'{'n' * 31}' is too long: a name has at most 30 characters."),
        (["probe", "--plural", "probe"], "One and several need different names: choose another --plural."),
        (["user"], "app/models/user.py is there already"),
        (["refresh_token"], "There is a table refresh_tokens already: choose another name, or another --plural."),
        (["base"], "app/models/base.py is there already: choose another name, or another --plural."),
    ],
)
def test_a_name_that_is_refused_leaves_nothing(in_process: InProcess, arguments: list[str], sentence: str) -> None:
    before = sorted(in_process.folder.rglob("*.py"))
    assert sentence in in_process.fail("new", "slice", *arguments)
    assert sorted(in_process.folder.rglob("*.py")) == before
