"""Opens the database for several commands, and prints what they found in it."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import typer

from app.cli._settings import load_settings
from app.core.display import displayable

if TYPE_CHECKING:
    from app.core.config import Settings
    from app.core.database import Database


@asynccontextmanager
async def opened_database(settings: "Settings | None" = None) -> "AsyncGenerator[Database]":
    """Opens the database. Raises SetupError when it cannot be used or lacks a migration."""
    from app.core.database import open_database
    from app.core.migrations import check_migrations

    async with open_database(settings or load_settings()) as database:
        await check_migrations(database)
        yield database


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints rows in columns; None is empty."""
    lines = [list(head), *(["" if value is None else displayable(str(value)) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip())
