"""Defines the commands for the schema of the database, which run Alembic."""

import re
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli._settings import load_settings
from app.core.commands import full_command, python_module
from app.core.errors import SetupError

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import Script, ScriptDirectory

    from app.core.config import Settings

MESSAGE_CHARACTERS = 80
_CREATED = re.compile(r'op\.create_table\(\s*"(\w+)"')

app = typer.Typer(name="db", help="Apply, undo and write migrations of the database.", no_args_is_help=True)


@app.command()
def upgrade(revision: Annotated[str, typer.Argument(help="A revision, or BRANCH@head.")] = "heads") -> None:
    """Apply the migrations that the database lacks; in a local environment, offer to write one for new tables."""
    settings = load_settings()
    bring_up_to_date(settings, revision)
    if revision == "heads" and offer_migration(settings):
        typer.echo("The database is up to date.")


@app.command()
def downgrade(
    revisions: Annotated[list[str], typer.Argument(metavar="REVISION…", help="BRANCH@base undoes a whole branch.")],
) -> None:
    """Undo migrations down to each revision. The data of the tables that they created is lost."""
    from alembic import command

    config = _config(load_settings())
    for revision in revisions:
        with _plain_errors(_named(revision)):
            command.downgrade(config, revision)


@app.command()
def revision(
    message: Annotated[str, typer.Argument(help="What the migration does, in a few words.")],
    empty: Annotated[bool, typer.Option("--empty", help="Write an empty migration to fill in by hand.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Also drop tables that no model has any more.")] = False,
) -> None:
    """Write a migration from the differences between your models and the database."""
    _check_message(message)
    if written := write_revision(load_settings(), message, empty=empty, drop=drop):
        tables = _CREATED.findall(written.read_text(encoding="utf-8"))
        makes = f", which makes {_of_tables(tables)}" if tables else ""
        typer.echo(f"Wrote {written}{makes}: read it, then run {full_command('db upgrade')}.")
    else:
        typer.echo("The database has all that the models have, so nothing was written; --empty writes one anyway.")


@app.command()
def check() -> None:
    """Check that models, migrations and database agree."""
    check_models(load_settings())
    typer.echo("Models, migrations and database agree.")


@app.command()
def current() -> None:
    """Show which migrations of each branch the database has."""
    from alembic.script import ScriptDirectory

    config = _config(load_settings())
    script = ScriptDirectory.from_config(config)
    with _plain_errors():
        stored = script.get_revisions(_stored(config, script))
        applied = {found.revision for found in script.iterate_revisions(tuple(r.revision for r in stored), "base")}
    for branch, newest in _newest(script).items():
        typer.echo(f"{branch:<10}{_state(script, branch, newest, applied)}")
    for gone in sorted(config.attributes["switched_off"]):
        typer.echo(f"{gone.rpartition('_')[0]:<10}{gone}, switched off: its tables stay as they are")


@app.command()
def forget(
    feature: Annotated[str, typer.Argument(help="A feature that is switched off, and whose tables you dropped.")],
) -> None:
    """Forget the migrations of a feature, so that it creates its tables again once it is switched on."""
    import asyncio

    forgotten = asyncio.run(_forget(load_settings(), feature))
    typer.echo(f"Forgot {', '.join(sorted(forgotten))}: {feature} creates its tables again once it is switched on.")


def bring_up_to_date(settings: "Settings", revision: str = "heads") -> None:
    """Applies the missing migrations, and prints them. Raises SetupError."""
    from alembic import command

    with _plain_errors(_named(revision)):
        command.upgrade(_config(settings), revision)


def offer_migration(settings: "Settings") -> bool:
    """Offers to write a migration for tables that only the models have; without a terminal, names the command.

    Returns whether the database has all tables now. Outside a local environment it asks nothing and returns True.
    """
    tables = _tables_to_come(settings) if settings.environment == "local" else []
    if not tables:
        return True
    message = f"add {' and '.join(tables)}"[:MESSAGE_CHARACTERS].replace("_", " ")
    lack = f"No migration makes {_of_tables(tables)} yet"
    if not sys.stdin.isatty():
        write = full_command(f'db revision "{message}"')
        typer.echo(f"{lack}: run {write}, then {full_command('db upgrade')} again.")
        return False
    if not typer.confirm(f"{lack}. Write it, and apply it?", default=True):
        return False
    typer.echo(f"Wrote {write_revision(settings, message)}")
    bring_up_to_date(settings)
    return True


def _of_tables(names: Sequence[str]) -> str:
    return f"the table{'s' if len(names) > 1 else ''} {' and '.join(names)}"


def _new_tables(changes: Iterable[Any]) -> list[str]:
    """Returns the names of the new tables among the changes of Alembic, where a changed column is a list of its own."""
    return [change[1].name for change in changes if change[0] == "add_table"]


def _tables_to_come(settings: "Settings") -> list[str]:
    """Returns the names of the tables that the models have and no migration creates."""
    from alembic import command
    from alembic.util import AutogenerateDiffsDetected

    try:
        with redirect_stdout(StringIO()):
            command.check(_config(settings))
    except AutogenerateDiffsDetected as found:
        return _new_tables(found.diffs)
    return []


def write_revision(settings: "Settings", message: str, *, empty: bool = False, drop: bool = False) -> Path | None:
    """Writes a migration; returns None when the database lacks nothing that the models have. Raises SetupError."""
    from alembic import command
    from alembic.script import Script, ScriptDirectory

    with _plain_errors(), redirect_stdout(StringIO()):
        config = _config(settings, drop=drop)
        script = ScriptDirectory.from_config(config)
        base: Any = _newest(script)["base"].revision if empty else None
        with _whole_files(Path(script.dir)):
            written = command.revision(config, message, autogenerate=not empty, head="project@head", depends_on=base)
    return Path(written.path) if isinstance(written, Script) else None


@contextmanager
def _whole_files(folder: Path) -> Generator[None]:
    """Removes revisions that could be written only in part, or not formatted. Raises SetupError."""
    there = set(folder.rglob("*.py"))
    try:
        yield
    except OSError as error:
        for path in set(folder.rglob("*.py")) - there:
            path.unlink()
        raise SetupError(f"The migration cannot be written to {folder} ({error.strerror}).") from None


def check_models(settings: "Settings") -> None:
    """Raises SetupError when models, migrations and database do not agree."""
    from alembic import command

    with _plain_errors(), redirect_stdout(StringIO()):
        command.check(_config(settings))


async def _forget(settings: "Settings", feature: str) -> set[str]:
    from sqlalchemy import text

    from app.core.database import open_database
    from app.core.migrations import has_all_migrations, switched_off

    async with open_database(settings) as database:
        gone = {name for name in switched_off(await has_all_migrations(database)) if name.rpartition("_")[0] == feature}
        if not gone:
            raise SetupError(f"The database has no migration of a feature {feature} that is switched off.")
        async with database.write() as session:
            for name in gone:
                await session.execute(text("DELETE FROM alembic_version WHERE version_num = :name"), {"name": name})
    return gone


def _config(settings: "Settings", *, drop: bool = False) -> "Config":
    from importlib.util import find_spec

    from alembic.config import Config

    from app.core.config import ROOT
    from app.core.migrations import check_files

    check_files()
    config = Config(ROOT / "alembic.ini", stdout=sys.stdout, attributes={"settings": settings, "drop": drop})
    if find_spec("ruff") is None:  # where only what production needs is installed
        config.set_section_option("post_write_hooks", "hooks", "")
    return config


def _named(revision: str) -> str:
    if not revision.strip():  # Alembic would take that for a bug of its own
        raise SetupError("Name a revision, or BRANCH@head.")
    return revision


def _check_message(message: str) -> None:
    """Raises SetupError unless the message fits in a line of Python and in a file's name."""
    if (
        not message.strip()
        or len(message) > MESSAGE_CHARACTERS
        or set(message) & set('"\\')
        or not message.isprintable()
    ):
        raise SetupError(f'The message must be one line of at most {MESSAGE_CHARACTERS} characters, without " and \\.')


def _newest(script: "ScriptDirectory") -> dict[str, "Script"]:
    heads = script.get_revisions(tuple(script.get_heads()))
    return {branch: head for head in heads for branch in sorted(head.branch_labels)}


def _stored(config: "Config", script: "ScriptDirectory") -> tuple[str, ...]:
    """Returns the revisions that the database has stored, which imply those that they depend on."""
    from alembic.runtime.environment import EnvironmentContext

    stored: list[str] = []

    def note(revisions: Any, _context: object) -> list[Any]:
        stored.extend(revisions)
        return []

    with EnvironmentContext(config, script, fn=note, dont_mutate=True):
        script.run_env()
    return tuple(stored)


def _state(script: "ScriptDirectory", branch: str, newest: "Script", applied: set[str]) -> str:
    line = [found for found in script.iterate_revisions(newest.revision, "base") if branch in found.branch_labels]
    done = [found for found in line if found.revision in applied]
    where = f"{done[0].revision} ({done[0].doc})" if done else "nothing"
    left = len(line) - len(done)
    return f"{where}, {f'{left} to apply' if left else 'up to date'}"


@contextmanager
def _plain_errors(asked_for: str = "") -> Generator[None]:
    """Turns errors of Alembic and the database into a SetupError."""
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except CommandError as error:
        raise SetupError(_sentence(error, asked_for)) from None
    except DBAPIError as error:
        raise SetupError(f"The database refused a migration, and nothing was changed: {error.orig}") from None


def _sentence(error: Exception, asked_for: str) -> str:
    from alembic.util import AutogenerateDiffsDetected

    text = str(error)
    located = text.removeprefix("Can't locate revision identified by ").strip("'")
    if isinstance(error, AutogenerateDiffsDetected):
        tables = _new_tables(error.diffs)
        named = f" ({_of_tables(tables)})" if tables else ""
        write = full_command('db revision "what changes"')
        return f"The models and the migrations differ{named}: run {write}."
    if "not up to date" in text:
        return f"The database lacks migrations: run {full_command('db upgrade')} first."
    if "Multiple heads are present" in text:
        merge = python_module("alembic merge project@heads --message joined")
        return f"Two migrations follow the same one: join them with {merge}."
    if located != text:
        return _unknown(located, asked_for) if located in asked_for else _file_is_gone(located)
    return text


def _unknown(revision: str, asked_for: str) -> str:
    if asked_for.startswith(f"{revision}@"):
        return f"There is no branch {revision}: if its feature is switched off, switch it on again first."
    return f"There is no revision {revision}."


def _file_is_gone(revision: str) -> str:
    return (
        f"The database has the migration {revision}, whose file is gone: "
        f"put the file back, and run {full_command('db downgrade BRANCH@base')} for its branch before you remove it."
    )
