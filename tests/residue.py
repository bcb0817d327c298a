"""What a rendered project must not have in it: leftovers of the template, and of features that were not chosen."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matrix import Questions

LEFT_BEHIND = {"__pycache__", ".venv", ".pytest_cache", ".ruff_cache", ".import_linter_cache", ".git"}
JINJA = re.compile(r"\{%|%\}|\{\{|\{#|_copier_")
JINJA_IN_PYTHON = re.compile(r"\{[%{#]-?\s|\{%|_copier_")
DISCOVERED = {"app/api/v1", "app/cli", "app/models", "alembic/versions", "tests/owned"}
"""Folders whose modules nothing names: they are found by looking."""
STARTED = {"app/asgi.py", "app/cli/__main__.py", "alembic/env.py"}
"""Modules that a program begins with."""
TERMS = re.compile(r"chat[ ._/]completions?|openai[-_]chat", re.IGNORECASE)
"""Names of other people's things in which a feature's name occurs."""


def files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not LEFT_BEHIND & set(path.parts):
            yield path


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in files(folder)}


def residue(project: Path, answers: dict[str, Any], questions: Questions) -> list[str]:
    """One sentence for each leftover."""
    found = [*_untidy(project), *_orphans(project), *_foreign(project, answers, questions)]
    folders = [path for path in project.rglob("*") if path.is_dir() and not LEFT_BEHIND & set(path.parts)]
    empty = [path for path in folders if not any(path.iterdir())]
    return [*found, *(f"{path} is empty" for path in empty)]


def _untidy(project: Path) -> Iterator[str]:
    for path in files(project):
        text = path.read_text(encoding="utf-8")
        code = path.suffix in {".py", ".mako"}
        if not text.strip():
            yield f"{path} is blank"
        elif not text.endswith("\n") or text.endswith("\n\n"):
            yield f"{path} does not end with one line break"
        elif "\n\n\n" in text and not code and path.name != "LICENSE":
            yield f"{path} has blank lines in a row"
        if (JINJA_IN_PYTHON if code else JINJA).search(text) and path.suffix != ".mako":
            yield f"{path} has Jinja in it"


def _orphans(project: Path) -> Iterator[str]:
    """Modules that nothing imports: what is left of a feature that is not there."""
    modules = {path for path in files(project) if path.suffix == ".py"}
    imported = {name for path in modules for name in _imports(path)}
    for path in modules:
        place = path.relative_to(project)
        found_by_looking = any(place.is_relative_to(folder) for folder in DISCOVERED)
        named = ".".join(place.with_suffix("").parts) in imported
        is_test = place.parts[0] == "tests" and (path.stem.startswith("test_") or path.stem == "conftest")
        if not (found_by_looking or named or is_test or path.stem == "__init__" or place.as_posix() in STARTED):
            yield f"{path} is imported by nothing"


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), path)):
        match node:
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases)
            case ast.ImportFrom(module=str(module), names=aliases):
                yield module
                yield from (f"{module}.{alias.name}" for alias in aliases)
            case _:
                pass


def _foreign(project: Path, answers: dict[str, Any], questions: Questions) -> Iterator[str]:
    """Names of features that were not chosen."""
    left_out = set(questions.choices("features")) - set(answers["features"])
    for path in files(project):
        text = TERMS.sub("", path.read_text(encoding="utf-8"))
        for feature in sorted(left_out):
            if re.search(rf"\b{feature}\b", text, re.IGNORECASE) or feature in TERMS.sub("", path.stem).split("_"):
                yield f"{path} names {feature}, which was not chosen"
