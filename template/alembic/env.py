"""Tells Alembic which database to change and how to compare it with the models, for the `db` commands and `alembic`.

`config.attributes` may hold `settings`, in place of those of the environment, and `drop`, as `alembic -x drop` does.

The database stores the newest revision of every branch. Alembic alone would store only those that no other depends on:
once a feature is switched off and its files are gone, nobody could tell what was applied of the base it depends on.
"""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.migration import MigrationContext
from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationInfo
from alembic.script import Script
from alembic.util import CommandError
from sqlalchemy import event
from sqlalchemy.dialects.postgresql import JSONB

from app.core.config import Settings, load_environment, read_settings
from app.core.database import open_database
from app.core.errors import SetupError
from app.core.migrations import switched_off
from app.models.base import Base

TURN = 7_239_145_006_411
"""Names the advisory lock of PostgreSQL that a process holds while it changes the schema."""

VERSION = sa.table("alembic_version", sa.column("version_num", sa.String))

_CREATED = re.compile(r"\bop\.(?:create_table\(|rename_table\([^,]+,)\s*[\"'](\w+)[\"']")

_DROPPED = re.compile(r"\s*DROP TABLE \"?(\w+)")
_RENAMED = re.compile(r"\s*ALTER TABLE \"?\w+\"? RENAME TO \"?(\w+)")

config, script, tables = context.config, context.script, Base.metadata.tables
drop: bool = config.attributes.get("drop", False) or "drop" in context.get_x_argument(as_dictionary=True)
applied: list[str] = []
parts: list[str] = []
"""Lists beginnings of names: of tables that SQLite made for virtual ones."""


def include_name(name: str | None, kind: str, parents: Mapping[Any, str | None]) -> bool:
    """Leaves tables alone that no model owns, unless `drop` is set: a feature that was switched off may own them.

    Those of SQLite's virtual tables are dropped with these, and no others may be.
    """
    if kind != "table" or (table := str(parents["schema_qualified_table_name"])) in tables:
        return True
    return drop and not table.startswith((*Base.metadata.info.get("derived", ()), *parts))


def render_item(kind: str, item: Any, autogenerate: AutogenContext) -> str | Literal[False]:
    """Writes a type of the application as what it is in the database: revisions do not import what may change."""
    if kind != "type":
        return False
    if type(item) is JSONB:  # which Alembic writes with a name that it does not import
        autogenerate.imports.add("from sqlalchemy.dialects import postgresql")
        return "postgresql.JSONB()"
    plain = item.impl_instance if isinstance(item, sa.types.TypeDecorator) else item
    if isinstance(plain, sa.Enum) and not plain.native_enum:
        plain = sa.String(plain.length)
    known = plain is not item and type(plain).__module__ == "sqlalchemy.sql.sqltypes"
    return f"sa.{plain!r}" if known else False


def complete(_context: MigrationContext, _revision: object, directives: list[MigrationScript]) -> None:
    """Completes a new revision of the project: drops it if nothing changed, else lets it depend on what it touches."""
    [directive] = directives
    if not str(directive.head).startswith("project@") or directive.upgrade_ops is None:
        return
    if directive.upgrade_ops.is_empty():
        directives.clear()
    else:
        touched = {name for op in directive.upgrade_ops.ops if isinstance(name := getattr(op, "table_name", None), str)}
        directive.depends_on = dependencies(touched)


def dependencies(touched: set[str]) -> list[str]:
    """Returns the newest revisions of the branches that made these tables or those they refer to, else of the base.

    With those of every branch, a revision could not be read once a feature that it does not need is switched off.
    """
    targets = {key.column.table.name for name in touched if name in tables for key in tables[name].foreign_keys}
    branches = {
        branch for made in script.walk_revisions() if creates(made) & (touched | targets) for branch in labels(made)
    }
    newest = {branch: head.revision for head in script.get_revisions(script.get_heads()) for branch in labels(head)}
    found = {newest[branch] for branch in branches - {"project"} or {"base"}}
    # One that another depends on is implied by that, and Alembic would count it twice.
    return sorted(found - {older for name in found for older in up_to(name) if older != name})


def creates(made: Script) -> set[str]:
    return set(_CREATED.findall(Path(made.path).read_text(encoding="utf-8")))


def labels(made: Script) -> set[str]:
    return set(made.branch_labels)


def note(ctx: object, step: MigrationInfo, heads: object, run_args: object) -> None:
    if step.is_stamp:
        return
    [revision] = script.get_revisions(step.up_revision_ids)
    applied.append(revision.revision)
    with suppress(OSError):  # nobody may be reading it any more, as after `| head`
        config.print_stdout(f"{'Applied' if step.is_upgrade else 'Undid'} {revision.revision}: {revision.doc}")


options: dict[str, Any] = {
    "target_metadata": Base.metadata,
    # On PostgreSQL, too: a revision that was written there must also work on SQLite.
    "render_as_batch": True,
    "transactional_ddl": True,
    "include_name": include_name,
    "render_item": render_item,
    "process_revision_directives": complete,
}


def migrate(connection: sa.Connection) -> None:
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        suspend_foreign_keys(connection)
        keep_triggers(connection)
    context.configure(connection=connection, on_version_apply=note, **options)
    with context.begin_transaction():
        if sqlite:
            virtual = sa.text("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%'")
            parts.extend(f"{name}_" for name in connection.scalars(virtual))
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(TURN)))
        gone = show_what_alembic_stores(connection)
        context.run_migrations()
        store_every_branch(connection, gone)
        if sqlite and applied:
            check_foreign_keys(connection)


def show_what_alembic_stores(connection: sa.Connection) -> set[str]:
    """Deletes the rows that Alembic would not store, and returns those of features that were switched off."""
    stored = rows(connection)
    gone = config.attributes["switched_off"] = switched_off(stored)
    known = {found.revision for found in script.get_revisions(tuple(stored - gone))}
    implied = {older for row in known for older in up_to(row) if older != row}
    if hidden := stored & (gone | implied):
        connection.execute(sa.delete(VERSION).where(VERSION.c.version_num.in_(hidden)))
    return gone


def store_every_branch(connection: sa.Connection, gone: set[str]) -> None:
    stored = rows(connection)
    done = {revision for row in stored for revision in up_to(row)}
    followed = {older for found in script.get_revisions(tuple(done)) for older in predecessors(found)}
    if missing := (done - followed | gone) - stored:
        connection.execute(sa.insert(VERSION), [{"version_num": revision} for revision in sorted(missing)])


def rows(connection: sa.Connection) -> set[str]:
    there = sa.inspect(connection).has_table(VERSION.name)
    return set(connection.scalars(sa.select(VERSION.c.version_num))) if there else set()


def up_to(revision: str) -> set[str]:
    """Returns a revision and all that it depends on."""
    return {found.revision for found in script.iterate_revisions(revision, "base")}


def predecessors(found: Script) -> set[str]:
    names = found.down_revision or ()
    return {names} if isinstance(names, str) else set(names)


def suspend_foreign_keys(connection: sa.Connection) -> None:
    """Suspends foreign keys on SQLite, which replaces a table to change it: dropping it would delete referring rows.

    The pragma bypasses SQLAlchemy, which would begin a transaction, in which it does nothing.
    """
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA foreign_keys=OFF")
    cursor.close()


def keep_triggers(connection: sa.Connection) -> None:
    """Creates the triggers of a table again on SQLite when it is replaced, since they are dropped with the old one."""
    dropped: dict[str, list[str]] = {}

    @event.listens_for(connection, "before_cursor_execute")
    def _note(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if found := _DROPPED.match(statement):
            cursor.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", (found[1],))
            dropped[found[1]] = [sql for (sql,) in cursor.fetchall()]

    @event.listens_for(connection, "after_cursor_execute")
    def _create(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if found := _RENAMED.match(statement):
            for sql in dropped.pop(found[1], ()):
                cursor.execute(sql)


def check_foreign_keys(connection: sa.Connection) -> None:
    broken = {row[0] for row in connection.exec_driver_sql("PRAGMA foreign_key_check")}
    if broken:
        raise CommandError(f"Rows of {', '.join(sorted(broken))} would refer to nothing; nothing was changed.")


def unlimited(settings: Settings) -> Settings:
    """Lifts the time limits: a migration may take long, and waits for one that another process has begun."""
    if settings.database_url.get_backend_name() == "sqlite":
        return settings
    return settings.model_copy(update={"database_statement_timeout": 0, "database_lock_timeout": 0})


async def online(settings: Settings) -> None:
    async with open_database(unlimited(settings)) as database, database.engine.connect() as connection:
        await connection.run_sync(migrate)


def offline(settings: Settings) -> None:
    """Prints the statements, for `alembic upgrade heads --sql`."""
    url = settings.database_url.render_as_string(hide_password=False)
    context.configure(url=url, literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()


def configured() -> Settings:
    load_environment()
    return read_settings(Settings)


try:
    chosen = config.attributes.get("settings") or configured()
    offline(chosen) if context.is_offline_mode() else asyncio.run(online(chosen))
except SetupError as error:
    raise CommandError(str(error)) from None  # which Alembic prints without a traceback
