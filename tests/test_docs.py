"""What the documents say is what is there."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifest import manifest
from matrix import QUESTIONS
from processes import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
CELLS = re.compile(r"(?<!\\)\|")


def rows() -> dict[str, list[str]]:
    """The cells of each row of the table of questions, by its key."""
    lines = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in CELLS.split(line)[1:-1]] for line in lines if re.match(r"\| `\w+` ", line)]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_question_has_its_row_in_order() -> None:
    assert list(rows()) == list(QUESTIONS.asked)


@pytest.mark.parametrize("name", [name for name, question in QUESTIONS.asked.items() if "choices" in question])
def test_a_row_has_every_choice_and_the_default(name: str, default_answers: dict[str, Any]) -> None:
    values, default = rows()[name][:2]
    answer = default_answers[name]
    assert re.findall(r"`([^`]+)`", values) == QUESTIONS.choices(name)
    assert default == (", ".join(answer) if isinstance(answer, list) else answer)


@pytest.fixture(scope="session")
def default_answers(default_project: Path) -> dict[str, Any]:
    return yaml.safe_load((default_project / ".copier-answers.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target


def test_the_files_of_every_answer_are_named() -> None:
    text = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    found = re.findall(r"(?m)^\| `(\w+): ([\w-]+)` \| (.*) \|$", text)
    named = [(question, value, file) for question, value, files in found for file in re.findall(r"`([^`]+)`", files)]
    assert named == manifest()


@pytest.mark.parametrize("name", QUESTIONS.asked)
def test_a_row_has_the_limits_of_its_validator(name: str) -> None:
    """The sentences of a validator, and what it is called with, have the numbers."""
    limits = set(re.findall(r"\b\d{2,}\b", QUESTIONS.asked[name].get("validator", "")))
    assert limits <= set(re.findall(r"\d+", rows()[name][3]))


def test_security_names_every_setting_of_its_and_none_that_is_not_there() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    example = (ROOT / "template" / ".env.example.jinja").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z0-9]+_[A-Z0-9_]+)`", text))
    assert named <= set(re.findall(r"(?m)^#?([A-Z0-9_]+)=", example))
    sections = re.split(r"(?m)^# --- ", example)
    for section in sections:
        if section.startswith(("Redis", "Limits", "Accounts", "Mail")):
            assert set(re.findall(r"(?m)^#?([A-Z0-9_]+)=", section)) <= named
