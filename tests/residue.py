"""Finds what a rendered project must not have: leftovers of the template, and of features that were not chosen."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from questions import Questions

LEFT_BEHIND = {"__pycache__", ".venv", ".pytest_cache", ".ruff_cache", ".import_linter_cache", ".git"}
JINJA = re.compile(r"\{%|%\}|\{\{|\{#|_copier_")
JINJA_IN_PYTHON = re.compile(r"\{[%{#]-?\s|\{%|_copier_")
PYTHON_BLOCK = re.compile(r"```python\n.*?```", re.DOTALL)
"""Matches the Python blocks of a Markdown text, which ruff formats as it does a Python file."""
DISCOVERED = {
    "alembic/versions",
    "app/api/protocols",
    "app/api/v1",
    "app/cli",
    "app/jobs",
    "app/models",
    "app/services/speech/providers",
    "app/services/tools",
    "tests/owned",
}
"""Names folders whose modules nothing imports by name: they are discovered."""
EMAIL_TEMPLATES = "app/services/email/templates"
"""Names the folder of templates that a project itself renders."""
EXPRESSION = re.compile(r"\$\{\{ [a-z_.]+( == '\w+')? \}\}")
"""Matches the expressions of a GitHub workflow, whose braces look like Jinja's."""
STARTED = {
    *("app/asgi.py", "app/cli/__main__.py", "app/core/server_protocols.py", "alembic/env.py"),
    *("app/api/websockets.py", "app/services/auth.py", "app/services/stt.py", "app/services/toolbox.py"),
    "app/services/tts.py",
}
"""Names modules that a program starts with or loads by name, and those that are there for an owner's own code."""
TERMS = re.compile(r"chat[ ._/]completions?|openai[-_]chat|AGENTS\.md|\.agents\b", re.IGNORECASE)
"""Matches names of other projects in which a feature's name occurs."""
OF_AN_ANSWER = {
    "compose.yaml": ("deployment", "docker"),
    "k8s": ("deployment", "kubernetes"),
    ".github": ("ci", "github"),
    ".gitlab-ci.yml": ("ci", "gitlab"),
    ".pre-commit-config.yaml": ("tooling", "pre-commit"),
    ".devcontainer": ("tooling", "devcontainer"),
    ".agents": ("tooling", "agent-guide"),
    ".agents/skills/add-a-tool": ("features", "agents"),
    "AGENTS.md": ("tooling", "agent-guide"),
}
"""Maps files that no code imports to the question and the choice that alone bring them."""


def files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not LEFT_BEHIND & set(path.parts):
            yield path


KNOWN_IN = {
    "agents": (
        "alembic/versions/chat/",
        "app/api/v1/chat.py",
        "app/cli/chat.py",
        "app/repositories/conversation.py",
        "app/services/chat/",
    )
}
"""Lists by feature the files of another one that know what it may bring: chat, who else may write replies."""


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in files(folder)}


def residue(project: Path, answers: dict[str, Any], questions: Questions) -> list[str]:
    """Returns one sentence for each leftover."""
    found = [*_untidy(project), *_orphans(project), *_dangling(project), *_foreign(project, answers, questions)]
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
        elif "\n\n\n" in PYTHON_BLOCK.sub("code", text) and not code and path.name != "LICENSE":
            yield f"{path} has blank lines in a row"
        if path.parent.name == "workflows":
            text = EXPRESSION.sub("", text)
        is_template = path.suffix == ".mako" or path.is_relative_to(project / EMAIL_TEMPLATES)
        if (JINJA_IN_PYTHON if code else JINJA).search(text) and not is_template:
            yield f"{path} has Jinja in it"


def _orphans(project: Path) -> Iterator[str]:
    """Finds modules that nothing imports: leftovers of a feature that was not chosen."""
    modules = {path for path in files(project) if path.suffix == ".py"}
    imported = {name for path in modules for name in imported_by(path)}
    for path in modules:
        place = path.relative_to(project)
        found_by_looking = any(place.is_relative_to(folder) for folder in DISCOVERED)
        named = ".".join(place.with_suffix("").parts) in imported
        is_test = place.parts[0] == "tests" and (path.stem.startswith("test_") or path.stem == "conftest")
        if not (found_by_looking or named or is_test or path.stem == "__init__" or place.as_posix() in STARTED):
            yield f"{path} is imported by nothing"


def _dangling(project: Path) -> Iterator[str]:
    """Finds imports of modules of the project that are not in it."""
    for path in files(project):
        for name in imported_by(path) if path.suffix == ".py" else ():
            place = project.joinpath(*name.split("."))
            if name.startswith(("app.", "tests.")) and not (
                place.parent.is_dir() or place.parent.with_suffix(".py").exists()
            ):
                yield f"{path} imports {name}, which is not there"


def imported_by(path: Path) -> tuple[str, ...]:
    """Names what a module imports, also each name of a `from` as if it were a module."""
    return _imported(path.read_text(encoding="utf-8"))


@cache
def _imported(text: str) -> tuple[str, ...]:
    """Caches what a module imports, since most modules are in every project."""
    return tuple(name for node in ast.walk(ast.parse(text)) for name in _names(node))


def _names(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=aliases):
            return [alias.name for alias in aliases]
        case ast.ImportFrom(module=str(module), names=aliases):
            return [module, *(f"{module}.{alias.name}" for alias in aliases)]
        case _:
            return []


def _foreign(project: Path, answers: dict[str, Any], questions: Questions) -> Iterator[str]:
    """Finds names and files of features, providers and other answers that were not chosen."""
    left_out = set(questions.choices("features")) - set(answers["features"])
    for path in files(project):
        text = TERMS.sub("", path.read_text(encoding="utf-8"))
        name = path.relative_to(project).as_posix()
        for feature in sorted(left_out):
            if name.startswith(KNOWN_IN.get(feature, ())):
                continue
            if re.search(rf"\b{feature}\b", text, re.IGNORECASE) or feature in TERMS.sub("", path.stem).split("_"):
                yield f"{path} names {feature}, which was not chosen"
    for name, (question, value) in OF_AN_ANSWER.items():
        if value not in answers[question] and (project / name).exists():
            yield f"{name} is there without {value}, which was not chosen"
    for provider in sorted(set(questions.choices("speech_providers")) - set(answers["speech_providers"])):
        if (project / "app/services/speech/providers" / f"{provider}.py").exists():
            yield f"app/services/speech/providers has {provider}, which was not chosen"
