"""Variants pass their own checks and their own tests as they were rendered, without a repair step."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from checks import OF_CODE, OF_FILES, Check, Project, migrations, suite
from conftest import Render
from matrix import Variant
from processes import interpreter, succeed
from proofs import Proofs

pytestmark = pytest.mark.slow
SAME_EVERYWHERE = ("test_cli_update.py", "test_cli_doctor_template.py")
"""Tests with answers and templates of their own, which cost a minute: variants that share an environment do without."""
Note = Callable[[str, str], None]


def test_a_variant(variant: Variant, render: Render, proofs: Proofs, record_property: Note) -> None:
    shared = Project(render(**variant.answers))
    passes(shared, *OF_FILES)
    project = in_its_own_environment(shared) if variant.own else shared
    proof = proofs.of(project.fingerprint(), variant.name, lambda: whole(project, variant), again=variant.own)
    record_property("tests", str(proof.tests) if proof.by == variant.name else f"as {proof.by}")
    record_property("python", project.succeed("python", "--version").split()[-1])


def test_random_answers(random_variant: Variant, render: Render, proofs: Proofs) -> None:
    project = Project(render(**random_variant.answers))
    passes(project, *OF_FILES)
    proofs.of(f"code-{project.fingerprint(dependencies=False)}", random_variant.name, lambda: passes(project, *OF_CODE))


def passes(project: Project, *checks: Check) -> int:
    for check in checks:
        check(project)
    return 0


def whole(project: Project, variant: Variant) -> int:
    passes(project, *OF_CODE, migrations)
    left_out = () if variant.own else SAME_EVERYWHERE
    return suite(project, *(f"--ignore=tests/integration/{name}" for name in left_out))


def in_its_own_environment(project: Project) -> Project:
    """The environment that others share would hide a dependency that a project forgot to name."""
    python = interpreter(project.answers["python_version"])
    succeed("uv", "sync", "--quiet", "--compile-bytecode", "--python", python, cwd=project.folder)
    assert "doctor" in succeed("uv", "run", project.described["project"]["name"], "--help", cwd=project.folder)
    return replace(project, scripts=project.folder / ".venv" / "bin")
