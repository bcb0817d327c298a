"""Is the database as new as the code? Answered without importing Alembic, which a server has no use for."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.core.config import ROOT
from app.core.database import Database
from app.core.errors import SetupError

VERSIONS = ROOT / "alembic" / "versions"


async def check_migrations(database: Database) -> None:
    """Raises SetupError when a revision file has not been applied."""
    pending = heads() - await _applied(database)
    if pending:
        names = ", ".join(sorted(pending))
        raise SetupError(f"The database lacks {len(pending)} migration(s) ({names}): run the `db upgrade` command.")


def heads() -> set[str]:
    """The revisions that no other follows or depends on: what Alembic stores for a database that is current."""
    revisions = [dict(_literals(path)) for path in VERSIONS.glob("*/*.py")]
    found = {revision["revision"] for revision in revisions}
    followed = [_names(revision["down_revision"]) | _names(revision["depends_on"]) for revision in revisions]
    return found.difference(*followed)


async def _applied(database: Database) -> set[str]:
    try:
        async with database.read() as session:
            return set(await session.scalars(text("SELECT version_num FROM alembic_version")))
    except DBAPIError:
        return set()  # the table comes with the first migration


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


def _names(value: str | Sequence[str] | None) -> set[str]:
    return {value} if isinstance(value, str) else set(value or ())
