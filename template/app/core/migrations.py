"""Checks whether the database is as new as the code, without importing Alembic, which a server does not need."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import inspect, text

from app.core.commands import full_command
from app.core.config import ROOT
from app.core.database import Database
from app.core.errors import SetupError

log = structlog.stdlib.get_logger("app.migrations")

VERSIONS = ROOT / "alembic" / "versions"

_OF_A_FEATURE = re.compile(r"([a-z]+)_\d{4}\Z")
_WRITTEN = re.compile(r"([a-z]+_\d{4}|[0-9a-f]{12})\Z")
"""Matches the names that the template and `db revision` write; Alembic also takes branches and parts of names."""


async def check_migrations(database: Database) -> None:
    """Raises SetupError when a revision file has not been applied."""
    revisions = _revisions()
    stored = await has_all_migrations(database)
    stored -= switched_off(stored)
    if stored - {revision["revision"] for revision in revisions}:
        return  # the database is newer than this code, which is going to be replaced
    if pending := _heads(revisions) - stored:
        names = ", ".join(sorted(pending))
        raise SetupError(f"The database lacks migrations (up to {names}): run {full_command('db upgrade')}.")


async def report_lacking(database: Database, tables: Iterable[str]) -> None:
    """Logs what a developer still has to do about these tables, for which `dev` does not stop."""
    try:
        await check_migrations(database)
    except SetupError as error:
        log.warning("migration not applied", advice=str(error))
        return
    async with database.read() as session:
        connection = await session.connection()
        there = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    if lacking := sorted(set(tables).difference(there)):
        write = full_command(f'db revision "add {lacking[0]}"')
        advice = f"write one with {write}, then run {full_command('db upgrade')}"
        log.warning("table without a migration", tables=lacking, advice=advice)


async def has_all_migrations(database: Database) -> set[str]:
    """Returns the revisions that Alembic stored. Raises DBAPIError when the database cannot be read."""
    async with database.read() as session:
        connection = await session.connection()
        if not await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
            return set()  # it comes with the first migration
        return set(await session.scalars(text("SELECT version_num FROM alembic_version")))


def check_files() -> None:
    """Raises SetupError when a revision needs one whose file is gone."""
    revisions = _revisions()
    found = {revision["revision"] for revision in revisions}
    for revision in revisions:
        for name in sorted(_predecessors(revision) - found):
            if _WRITTEN.match(name):
                raise SetupError(
                    f"The migration {revision['revision']} depends on {name}, whose file is gone: "
                    "switch its feature on again, or put the file back."
                )


def switched_off(stored: set[str]) -> set[str]:
    """Picks the revisions of features whose files are gone: a revision's name begins with its branch, a folder."""
    return {name for name in stored if (found := _OF_A_FEATURE.match(name)) and not _has_files(VERSIONS / found[1])}


def heads() -> set[str]:
    """Returns the revisions that no other follows or depends on; a database that is up to date has them all."""
    return _heads(_revisions())


def _has_files(branch: Path) -> bool:
    return any(branch.glob("*.py"))


def _revisions() -> list[dict[str, Any]]:
    return [dict(_literals(path)) for path in VERSIONS.glob("*/*.py")]


def _heads(revisions: Sequence[Mapping[str, Any]]) -> set[str]:
    found = {revision["revision"] for revision in revisions}
    return found.difference(*map(_predecessors, revisions))


def _predecessors(revision: Mapping[str, Any]) -> set[str]:
    return _names(revision["down_revision"]) | _names(revision["depends_on"])


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
