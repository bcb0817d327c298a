"""Rules that the template's own files keep."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import QUESTIONS, Render
from processes import ROOT

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
LEFT_BEHIND = {"__pycache__", ".venv", ".pytest_cache", ".ruff_cache"}


def files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not LEFT_BEHIND & set(path.parts):
            yield path


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in files(folder)}


def manifest() -> list[tuple[str, str, str]]:
    """Question, value and pattern of every line in a block of `_exclude`."""
    block = re.compile(r"{% if '(\w+)' not in (\w+) %}\n(.*?){% endif %}", re.DOTALL)
    found = [match.groups() for entry in QUESTIONS["_exclude"] for match in block.finditer(entry)]
    return [(question, value, line) for value, question, lines in found for line in lines.split()]


def test_only_these_files_are_rendered() -> None:
    assert {name.removesuffix(".jinja") for name in names(TEMPLATE) if name.endswith(".jinja")} == RENDERED


def test_python_files_are_plain() -> None:
    markers = re.compile(r"\{[%{#]-?\s|\{%|_copier_")
    for path in TEMPLATE.rglob("*.py"):
        assert not markers.search(path.read_text(encoding="utf-8")), path


def test_names_are_plain() -> None:
    for name in names(TEMPLATE):
        assert not re.search(r'{%|["|<>:?*\\]', name), name


def test_nothing_needs_trust() -> None:
    assert not {"_tasks", "_migrations", "_jinja_extensions"} & QUESTIONS.keys()


def test_the_manifest_names_a_value_of_its_question() -> None:
    for question, value, _ in manifest():
        assert value in choices(question)


@pytest.mark.parametrize(("question", "value", "pattern"), manifest())
def test_every_pattern_leaves_out_what_is_there(question: str, value: str, pattern: str) -> None:
    assert (TEMPLATE / pattern).exists()
    assert not pattern.endswith("/"), "an empty folder would stay"


@pytest.mark.parametrize(("question", "value"), sorted({row[:2] for row in manifest()}))
def test_leaving_a_value_out_removes_its_files_alone(question: str, value: str, render: Render) -> None:
    everything = choices(question)
    lost = names(render(**{question: everything})) - names(render(**{question: [v for v in everything if v != value]}))
    patterns = tuple(row[2] for row in manifest() if row[:2] == (question, value))
    assert lost == {name for name in names(TEMPLATE) if name.startswith(patterns)}


def choices(question: str) -> list[str]:
    found = QUESTIONS[question]["choices"]
    return list(found.values()) if isinstance(found, dict) else found
