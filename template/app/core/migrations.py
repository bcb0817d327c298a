"""Is the database as new as the code? Answered without importing Alembic, which a server has no use for."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import inspect, text

from app.core.config import ROOT
from app.core.database import Database
from app.core.errors import SetupError

VERSIONS = ROOT / "alembic" / "versions"


async def check_migrations(database: Database) -> None:
    """Raises SetupError when a revision file has not been applied."""
    revisions = _revisions()
    stored = await applied(database)
    if stored - {revision["revision"] for revision in revisions}:
        return  # the database is newer than this code, which is going to be replaced
    if pending := _heads(revisions) - stored:
        names = ", ".join(sorted(pending))
        raise SetupError(f"The database lacks {len(pending)} migration(s) ({names}): run the `db upgrade` command.")


async def applied(database: Database) -> set[str]:
    """What Alembic stored. Raises DBAPIError when the database cannot be read."""
    async with database.read() as session:
        connection = await session.connection()
        if not await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
            return set()  # it comes with the first migration
        return set(await session.scalars(text("SELECT version_num FROM alembic_version")))


def heads() -> set[str]:
    """The revisions that no other follows or depends on: what Alembic stores for a database that is current."""
    return _heads(_revisions())


def _revisions() -> list[dict[str, Any]]:
    return [dict(_literals(path)) for path in VERSIONS.glob("*/*.py")]


def _heads(revisions: Sequence[Mapping[str, Any]]) -> set[str]:
    found = {revision["revision"] for revision in revisions}
    followed = [_names(revision["down_revision"]) | _names(revision["depends_on"]) for revision in revisions]
    return found.difference(*followed)


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
