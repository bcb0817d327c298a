"""Tests rules that the template's own files keep."""

import re
from itertools import chain, combinations

import pytest
from conftest import Render
from manifest import DEPLOYED, manifest, shared
from matrix import QUESTIONS
from processes import ROOT
from residue import JINJA_IN_PYTHON, names

TEMPLATE = ROOT / "template"
RENDERED = {
    ".devcontainer/docker-compose.yaml",
    ".env.example",
    ".github/workflows/ci.yml",
    ".gitignore",
    "Dockerfile",
    ".gitlab-ci.yml",
    "LICENSE",
    "README.md",
    "app/defaults.env",
    "compose.yaml",
    "k8s/base/kustomization.yaml",
    "k8s/overlays/production/kustomization.yaml",
    "k8s/overlays/staging/kustomization.yaml",
    "pyproject.toml",
    "{{_copier_conf.answers_file}}",
}


def test_only_these_files_are_rendered() -> None:
    assert {name.removesuffix(".jinja") for name in names(TEMPLATE) if name.endswith(".jinja")} == RENDERED


def test_python_files_are_plain() -> None:
    for path in TEMPLATE.rglob("*.py"):
        assert not JINJA_IN_PYTHON.search(path.read_text(encoding="utf-8")), path


def test_names_are_plain() -> None:
    for name in names(TEMPLATE):
        assert not re.search(r'{%|["|<>:?*\\]', name), name


def test_nothing_needs_trust() -> None:
    assert not {"_tasks", "_migrations", "_jinja_extensions"} & QUESTIONS.settings.keys()


def test_the_manifest_names_a_value_of_its_question() -> None:
    for question, value, _ in manifest():
        assert value in QUESTIONS.choices(question)


@pytest.mark.parametrize(("question", "value", "pattern"), manifest())
def test_every_pattern_leaves_out_what_is_there(question: str, value: str, pattern: str) -> None:
    assert any((TEMPLATE / name).exists() for name in (pattern, f"{pattern}.jinja"))
    assert not pattern.endswith("/"), "an empty folder would stay"


@pytest.mark.parametrize(("question", "value"), sorted({row[:2] for row in manifest()}))
def test_leaving_a_value_out_removes_its_files_alone(question: str, value: str, render: Render) -> None:
    with_it, without = _with_and_without(question, value) if QUESTIONS.many(question) else (value, "none")
    whole, part = (names(render(**{**DEPLOYED, question: answer})) for answer in (with_it, without))
    patterns = tuple(row[2] for row in manifest() if row[:2] == (question, value))
    gone = {name for name in whole - part if name.startswith(patterns) or not name.startswith(shared())}
    assert gone == {name for name in whole if name.startswith(patterns)}


def _with_and_without(question: str, value: str) -> tuple[list[str], list[str]]:
    """Returns the most choices that there may be without the value, first with the value added."""
    others = [choice for choice in QUESTIONS.choices(question) if choice != value]
    subsets = chain.from_iterable(combinations(others, size) for size in range(len(others), -1, -1))
    without = next(list(chosen) for chosen in subsets if not QUESTIONS.refusal(QUESTIONS.row({question: chosen})))
    return [choice for choice in QUESTIONS.choices(question) if choice in {*without, value}], without
