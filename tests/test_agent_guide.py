"""Tests that the guide for coding agents is true: what its skills tell to write and to run is written and run.

A block of Python whose first line is a comment with a path is the file at that path; a block of `sh` is run, in order.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import Render
from processes import ROOT, succeed
from services import database

SKILLS = sorted(path.parent.name for path in (ROOT / "template" / ".agents" / "skills").glob("*/SKILL.md"))
OF_TOOLS = "add-a-tool"
BLOCK = re.compile(r"(?ms)^```(\w+)\n(.*?)^```$")
FILE = re.compile(r"# (\S+\.py)\n")
NAMED = re.compile(r"`((?:\.agents|alembic|app|tests)/[\w./-]*|\.env\.example|README\.md)`")
LINES = 90
"""Limits a guide to about a page."""
SMALL = {"features": [], "ai_providers": [], "tooling": ["agent-guide"]}
WHOLE = {"database": "postgresql"}
PROJECTS = {"all": WHOLE, "none": SMALL}


def guide(project: Path, skill: str) -> str:
    return (project / ".agents" / "skills" / skill / "SKILL.md").read_text(encoding="utf-8")


def follow(project: Path, text: str, url: str) -> None:
    """Writes the files of a guide and runs its commands, in the environment that runs the tests."""
    settings = {"DATABASE_URL": url, "UV_NO_SYNC": "1", "UV_PROJECT_ENVIRONMENT": sys.prefix}
    for language, block in BLOCK.findall(text):
        if language == "sh":
            succeed("bash", "-euo", "pipefail", "-c", block, cwd=project, **settings)
        else:
            write(project, block)


def write(project: Path, block: str) -> None:
    match = FILE.match(block)
    assert match, f"no path in the first line: {block}"
    path = project / match[1]
    assert not path.exists()
    path.write_text(block[match.end() :], encoding="utf-8")


def missing(project: Path, text: str) -> list[str]:
    return [name for name in NAMED.findall(text) if not (project / name).exists()]


@pytest.mark.docs
@pytest.mark.slow
@pytest.mark.parametrize(
    ("skill", "features"),
    [(skill, features) for skill in SKILLS for features in PROJECTS if (skill, features) != (OF_TOOLS, "none")],
)
def test_a_skill_does_what_it_says(skill: str, features: str, render: Render) -> None:
    project = render(**PROJECTS[features])
    with database("sqlite") as url:
        follow(project, guide(project, skill), url)
    assert not missing(project, guide(project, skill))


@pytest.mark.docs
@pytest.mark.slow
def test_what_the_guide_says_runs_and_is_there(render: Render) -> None:
    project = render()
    text = (project / "AGENTS.md").read_text(encoding="utf-8")
    assert text.count("\n") < LINES
    assert not missing(project, text)
    follow(project, text, "sqlite:///app.db")


@pytest.mark.docs
@pytest.mark.slow
def test_what_skills_tell_to_write_is_in_the_style_of_the_project(render: Render) -> None:
    project = render()
    for _, block in (found for skill in SKILLS for found in files(guide(project, skill))):
        write(project, block)
    for command in ("ruff check", "ruff format --check", "lint-imports", "pyright"):
        succeed(*shlex.split(command), cwd=project)


def files(text: str) -> Iterator[tuple[str, str]]:
    return ((language, block) for language, block in BLOCK.findall(text) if language == "python")


@pytest.mark.parametrize("skill", SKILLS)
def test_a_skill_says_when_to_use_it(skill: str, default_project: Path) -> None:
    text = guide(default_project, skill)
    _, front, body = text.split("---\n", 2)
    told = yaml.safe_load(front)
    assert told.keys() == {"name", "description"}
    assert told["name"] == skill
    assert "Use " in told["description"]
    assert len(told["description"]) < 200
    assert body.startswith("\n# ")
    assert text.count("\n") < LINES
    assert re.search(r"(?s)\bdone when\b.*```sh\n|\*\*Fix the cause\*\*", body)


def test_skills_are_those_of_what_was_chosen(render: Render) -> None:
    tasks = ["add-a-job", "add-a-migration", "add-a-setting", "add-a-slice", "add-a-tool"]
    assert [*tasks, "debug", "run-and-test"] == SKILLS
    there = {path.name for path in (render(**SMALL) / ".agents" / "skills").iterdir()}
    assert there == set(SKILLS) - {OF_TOOLS}


def test_a_step_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit 3"):
        follow(tmp_path, "```sh\nexit 3\n```\n", "sqlite:///app.db")
    with pytest.raises(AssertionError, match="no path"):
        follow(tmp_path, "```python\nx = 1\n```\n", "sqlite:///app.db")
    assert missing(tmp_path, "See `app/none.py`.") == ["app/none.py"]
