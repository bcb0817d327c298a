"""Rules that the template's own files keep."""

import re

import pytest
from conftest import Render
from manifest import manifest
from matrix import QUESTIONS
from processes import ROOT
from residue import JINJA_IN_PYTHON, names

TEMPLATE = ROOT / "template"
RENDERED = {
    ".env.example",
    ".gitignore",
    "LICENSE",
    "README.md",
    "app/defaults.env",
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
    assert (TEMPLATE / pattern).exists()
    assert not pattern.endswith("/"), "an empty folder would stay"


@pytest.mark.parametrize(("question", "value"), sorted({row[:2] for row in manifest()}))
def test_leaving_a_value_out_removes_its_files_alone(question: str, value: str, render: Render) -> None:
    everything = QUESTIONS.choices(question)
    lost = names(render(**{question: everything})) - names(render(**{question: [v for v in everything if v != value]}))
    patterns = tuple(row[2] for row in manifest() if row[:2] == (question, value))
    assert lost == {name for name in names(TEMPLATE) if name.startswith(patterns)}
