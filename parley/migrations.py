"""Reads the revision files of a project without importing its packages."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

VERSIONS = "alembic/versions"


def dependents(project: Path, gone: Iterable[str]) -> list[tuple[str, str]]:
    """Lists the revision files that depend on a revision of the files in `gone`, each with that revision."""
    found = {path.relative_to(project).as_posix(): path for path in (project / VERSIONS).glob("*/*.py")}
    revisions = {name: dict(_literals(path)) for name, path in found.items()}
    lost = {revisions.pop(name).get("revision") for name in gone if name in revisions}
    return [(name, needed) for name, revision in revisions.items() for needed in sorted(_needed(revision) & lost)]


def _needed(revision: dict[str, Any]) -> set[Any]:
    values = (revision.get("down_revision"), revision.get("depends_on"))
    return {name for value in values for name in ([value] if isinstance(value, str) else value or [])}


def _literals(path: Path) -> Iterator[tuple[str, Any]]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.expr() as value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        if name in {"revision", "down_revision", "depends_on"}:
            yield name, ast.literal_eval(value)
