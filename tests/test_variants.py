"""Tests that rendered variants pass their checks, and their own tests with those that are laid over them."""

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from checks import KILLS, OF_CODE, OF_FILES, Check, Project, chosen_tests, migrations, suite, types_of
from conftest import Render
from matrix import Variant
from overlay import lay_over
from processes import interpreter, succeed
from proofs import Proof, Proofs

pytestmark = [pytest.mark.slow, pytest.mark.variants]
SEES_PROVIDERS = r"tests\.(speech_)?protocols|\.env\.example|defaults\.env|README|pyproject"
"""Matches tests that see which providers and which database were chosen."""
Note = Callable[[str, str], None]


def test_a_variant(variant: Variant, render: Render, proofs: Proofs, record_property: Note) -> None:
    project = Project(render(**variant.answers))
    passes(project, *OF_FILES)
    lay_over(project.folder)
    if variant.own:
        proof = proofs.of(f"own-{project.fingerprint()}", variant.name, lambda: alone(project, variant, proofs))
        for key in (project.fingerprint(), f"suite-{project.modules()}"):
            proofs.note(key, proof)
    else:
        proof = proofs.of(project.fingerprint(), variant.name, lambda: together(project, variant, proofs))
    record_property("tests", str(proof.tests) if proof.by == variant.name else f"as {proof.by}")
    python = interpreter(variant.python) if variant.own else sys.executable
    record_property("python", project.succeed(python, "--version").split()[-1])


def test_random_answers(random_variant: Variant, render: Render, proofs: Proofs) -> None:
    project = Project(render(**random_variant.answers))
    passes(project, *OF_FILES)
    lay_over(project.folder)
    code(project, random_variant, proofs)


def test_types(typed_variants: list[Variant], render: Render, proofs: Proofs) -> None:
    """Checks the same modules once: of the projects that have them, the one with the most providers is checked."""
    projects = [Project(lay_over(render(**variant.answers))) for variant in typed_variants]
    distinct = {project.modules(): project for project in sorted(projects, key=Project.size)}
    left = {key: project for key, project in distinct.items() if not proofs.has(f"types-{key}")}
    if left:
        types_of(left)
    for key in left:
        proofs.note(f"types-{key}", Proof(by=key))


def passes(project: Project, *checks: Check) -> int:
    for check in checks:
        check(project)
    return 0


def alone(project: Project, variant: Variant, proofs: Proofs) -> int:
    """Checks a project in its own environment: with every extra if it is the largest, else with none, as READMEs do."""
    is_largest = variant.name == "largest"
    own = in_its_own_environment(project, has_extras=is_largest)
    passes(own, *OF_CODE, migrations)
    if is_largest:  # two processes, since its suite takes longest
        return suite(own, "--numprocesses=2", *chosen_tests(own.folder))
    known = proofs.has(f"suite-{project.modules()}")
    return suite(own, *chosen_tests(own.folder, KILLS, SEES_PROVIDERS if known else ""))


def together(project: Project, variant: Variant, proofs: Proofs) -> int:
    """Checks a project in the shared environment. One that differs only in providers runs the tests that see them."""
    code(project, variant, proofs)
    passes(project, migrations)
    whole, part = (chosen_tests(project.folder, KILLS, told) for told in ("", SEES_PROVIDERS))
    proof = proofs.of(f"suite-{project.modules()}", variant.name, lambda: suite(project, *whole))
    return proof.tests if proof.by == variant.name else suite(project, *part)


def code(project: Project, variant: Variant, proofs: Proofs) -> None:
    proofs.of(f"code-{project.modules()}", variant.name, lambda: passes(project, *OF_CODE))


def in_its_own_environment(project: Project, *, has_extras: bool = False) -> Project:
    """Makes an environment for a project; a shared one would hide a dependency that it forgot to name."""
    python = interpreter(project.answers["python_version"])
    sync = ("uv", "sync", "--quiet", "--compile-bytecode", f"--python={python}")
    succeed(*sync, *(["--all-extras"] if has_extras else []), cwd=project.folder)
    assert "doctor" in succeed("uv", "run", project.described["project"]["name"], "--help", cwd=project.folder)
    return replace(project, scripts=project.folder / ".venv" / "bin", has_extras=has_extras)
