"""What a render looks like, before anything is installed."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import QUESTIONS, Render
from dotenv import dotenv_values
from test_template import choices, files, names

JINJA = re.compile(r"\{%|%\}|\{\{|\{#|_copier_")
HOSTILE = "O'Neil #1: [b]; echo hi & | * % é 🤖 [/x] -- !x @y = 'z' ?"
ANSWERS: list[dict[str, Any]] = [
    {},
    {"project_name": HOSTILE},
    {"project_name": "🤖"},
    {"project_name": "#"},
    {"project_description": HOSTILE, "author_name": HOSTILE, "author_email": "o.neil+x@example.com"},
    {"project_description": "- null", "author_name": "no", "license": "proprietary"},
    {"author_email": "ada@example.com"},
    {"project_name": "x" * 80, "project_description": "y" * 200, "database": "postgresql"},
    *[{"license": value} for value in choices("license")],
    *[{"python_version": value} for value in choices("python_version")],
    *[{"ai_providers": [value]} for value in choices("ai_providers")],
    {"ai_providers": choices("ai_providers")},
    {"ai_providers": [], "features": []},
]


def pyproject(project: Path) -> dict[str, Any]:
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("answers", ANSWERS, ids=repr)
def test_files_parse_and_say_what_was_answered(answers: dict[str, Any], render: Render) -> None:
    project = render(**answers)
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    described = pyproject(project)["project"]
    defaults = dotenv_values(project / "app" / "defaults.env", interpolate=False)
    example = dotenv_values(project / ".env.example", interpolate=False)
    assert answers.items() <= recorded.items()
    assert described["name"] == recorded["project_slug"]
    assert described["description"] == defaults["APP_DESCRIPTION"] == recorded["project_description"]
    assert defaults["APP_NAME"] == recorded["project_name"]
    assert set(defaults) == {"APP_NAME", "APP_DESCRIPTION", "DATABASE_URL"}
    assert example == {"SECRET_KEY": ""}


@pytest.mark.parametrize("answers", ANSWERS, ids=repr)
def test_nothing_is_left_over(answers: dict[str, Any], render: Render) -> None:
    project = render(**answers)
    assert not [path for path in project.rglob("*") if path.is_dir() and not any(path.iterdir())]
    for path in files(project):
        text = path.read_text(encoding="utf-8")
        assert text.strip(), f"{path} is blank"
        assert text.endswith("\n"), path
        assert not text.endswith("\n\n"), path
        assert "\n\n\n" not in text or path.suffix in {".py", ".mako"} or path.name == "LICENSE", path
        assert path.suffix == ".py" or not JINJA.search(text), path


@pytest.mark.parametrize("answers", [{}, {"features": [], "database": "postgresql"}], ids=repr)
def test_rendering_twice_gives_the_same_bytes(answers: dict[str, Any], render: Render) -> None:
    first, second = render(**answers), render(**answers)
    assert names(first) == names(second)
    for name in names(first):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_every_question_is_recorded(default_project: Path) -> None:
    recorded = yaml.safe_load((default_project / ".copier-answers.yml").read_text(encoding="utf-8"))
    questions = {name for name in QUESTIONS if not name.startswith("_")}
    assert questions == {name for name in recorded if not name.startswith("_")}


def test_authors(render: Render) -> None:
    ada, email = "Ada Lovelace", "ada@example.com"
    assert "authors" not in pyproject(render())["project"]
    assert pyproject(render(author_name=ada))["project"]["authors"] == [{"name": ada}]
    assert pyproject(render(author_email=email))["project"]["authors"] == [{"email": email}]
    both = pyproject(render(author_name=ada, author_email=email))["project"]["authors"]
    assert both == [{"name": ada, "email": email}]


@pytest.mark.parametrize(
    ("license", "words"),
    [
        ("MIT", "MIT License\n\nCopyright (c) Ada\n\nPermission is hereby granted"),
        ("Apache-2.0", "Apache License"),
        ("BSD-3-Clause", "Neither the name of the copyright holder"),
        ("GPL-3.0", "GNU GENERAL PUBLIC LICENSE"),
        ("proprietary", "Copyright (c) Ada. All rights reserved."),
    ],
)
def test_licenses(license: str, words: str, render: Render) -> None:
    assert words in (render(license=license, author_name="Ada") / "LICENSE").read_text(encoding="utf-8")


def test_dependencies_are_sorted_with_lower_bounds(default_project: Path) -> None:
    described = pyproject(default_project)
    for group in (described["project"]["dependencies"], described["dependency-groups"]["dev"]):
        bare = [requirement.split(">=")[0].split("[")[0] for requirement in group]
        assert bare == sorted(bare)
        assert all(re.fullmatch(r"[a-z0-9\-]+(\[[a-z0-9,\-]+\])?>=[0-9.]+", requirement) for requirement in group)


def test_features_left_out_leave_no_name_behind(render: Render) -> None:
    project = render(features=[])
    for name in ("README.md", ".env.example", "pyproject.toml"):
        text = (project / name).read_text(encoding="utf-8")
        assert not re.search(r"\bchat\b|conversation|MESSAGE_", text, re.IGNORECASE), name
