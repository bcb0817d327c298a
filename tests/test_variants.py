"""Each variant passes its own checks as it was rendered, without a repair step."""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from conftest import Render
from processes import ROOT, run, succeed
from test_template import choices

STRANGE = {
    "project_name": "O'Neil #1 [/b] 🤖",
    "project_description": "é: [red]% & 'x' | # ;",
    "author_name": "Ö. O'Neil, Jr.",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "smallest": {"features": [], "ai_providers": []},
    "largest": {"ai_providers": choices("ai_providers"), "database": "postgresql", **STRANGE},
    "no features": {"features": [], "database": "postgresql"},
    "no providers": {"ai_providers": [], "database": "postgresql"},
}
OF_ITS_OWN = ["default", "smallest", "largest"]
SHARED = [name for name in VARIANTS if name not in OF_ITS_OWN]
CHECKS = {
    "ruff check": ["ruff", "check", "--no-cache"],
    "ruff format": ["ruff", "format", "--check", "--no-cache"],
    "pyright": ["pyright"],
    "import contracts": ["lint-imports", "--no-cache"],
    "dependencies": ["deptry", "."],
}


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_passes_its_own_checks(variant: str, check: str, render: Render) -> None:
    succeed(*CHECKS[check], cwd=render(**VARIANTS[variant]))


DEFECTS = {
    "ruff check": ("app/planted.py", "import os\n"),
    "ruff format": ("app/planted.py", "x = [1,\n 2]\n"),
    "pyright": ("app/planted.py", "size: int = 'large'\n"),
    "import contracts": ("app/core/planted.py", "import app.services\n"),
    "dependencies": ("app/planted.py", "import numpy\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_a_check_finds_what_is_wrong(check: str, render: Render) -> None:
    project = render()
    path, text = DEFECTS[check]
    (project / path).write_text(text)
    done = run(*CHECKS[check], cwd=project)
    assert done.returncode != 0
    assert "planted" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("variant", SHARED)
def test_a_variant_passes_its_own_tests(variant: str, render: Render) -> None:
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses=0")
    said = succeed(*command, cwd=render(**VARIANTS[variant]))
    assert re.search(r"\d+ passed", said)


@pytest.mark.slow
@pytest.mark.parametrize("variant", OF_ITS_OWN)
def test_a_variant_tests_itself_in_an_environment_of_its_own(variant: str, render: Render) -> None:
    """The environment that others share would hide a dependency that a project forgot to name."""
    project = render(**VARIANTS[variant])
    succeed("uv", "sync", "--quiet", cwd=project)
    assert (project / ".venv").is_dir()
    assert "doctor" in succeed("uv", "run", slug_of(project), "--help", cwd=project)
    coverage = ["--cov"] if variant == "default" else []
    assert re.search(r"\d+ passed", succeed("uv", "run", "pytest", *coverage, cwd=project))


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_settings_and_their_example_agree(variant: str, render: Render) -> None:
    project = render(**VARIANTS[variant])
    said = json.loads(succeed(sys.executable, ROOT / "tests" / "settings_of.py", cwd=project))
    assert said["undocumented"] == []
    assert said["unknown"] == []
    assert said["wrong_default"] == []


@pytest.mark.parametrize("question", ["features", "database"])
def test_every_value_has_a_variant(question: str) -> None:
    answers = [variant[question] for variant in VARIANTS.values() if question in variant]
    values = {value for answer in answers for value in (answer if isinstance(answer, list) else [answer])}
    default = {"chat", "sqlite"}  # of the variant without answers
    assert set(choices(question)) <= values | default


def slug_of(project: Path) -> str:
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
