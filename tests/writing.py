"""Checks that a project's files say what was answered, in each of their languages."""

import ast
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values
from residue import files

READERS: dict[str, Callable[[str], object]] = {
    ".json": json.loads,
    ".py": ast.parse,
    ".toml": tomllib.loads,
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
}


def check_writing(project: Path) -> None:
    """Parses every file, and compares some with the answers. Raises AssertionError or what a parser raises."""
    for path in files(project):
        READERS.get(path.suffix, str)(path.read_text(encoding="utf-8"))
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    described = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (project / "README.md").read_text(encoding="utf-8").splitlines()
    assert described["name"] in described["scripts"]
    assert described["name"] == answers["project_slug"]
    assert described["description"] == answers["project_description"]
    assert described.get("authors", []) == _authors(answers)
    assert readme[:3] == [f"# {answers['project_name']}", "", answers["project_description"]]
    _check_environment(project, answers)


def _authors(answers: dict[str, Any]) -> list[dict[str, str]]:
    author = {"name": answers["author_name"], "email": answers["author_email"]}
    known = {name: value for name, value in author.items() if value}
    return [known] if known else []


def _check_environment(project: Path, answers: dict[str, Any]) -> None:
    defaults = dotenv_values(project / "app" / "defaults.env", interpolate=False)
    example = dotenv_values(project / ".env.example", interpolate=False)
    of_compose = {"POSTGRES_PASSWORD": ""} if "docker" in answers["deployment"] else {}
    assert example == {"SECRET_KEY": "", **of_compose}
    assert str(defaults.pop("DATABASE_URL")).split(":")[0] == answers["database"]
    assert defaults == {"APP_NAME": answers["project_name"], "APP_DESCRIPTION": answers["project_description"]}
