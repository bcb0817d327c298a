"""Prints what all tables of each database hold, as JSON: `rows.py [--fill] URL…`, run in a project.

With --fill, every table of the project's models gets a row first.
"""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from importlib import import_module
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

PLAIN = {
    sa.Uuid: uuid4,
    sa.DateTime: lambda: datetime.now(UTC),
    sa.Date: lambda: datetime.now(UTC).date(),
    sa.Boolean: lambda: False,
    sa.JSON: dict,
}


def value(kind: Any) -> Any:
    """Returns something that a column of this type takes; every text is unique."""
    match kind:
        case sa.types.TypeDecorator():
            return value(kind.impl_instance)
        case sa.Enum(enum_class=names) if names:
            return next(iter(names))
        case sa.String(length=length):
            return uuid4().hex[:length]
    return next((make() for plain, make in PLAIN.items() if isinstance(kind, plain)), 1)


def fill(connection: sa.Connection) -> None:
    made: dict[sa.Table, dict[str, Any]] = {}
    import_module("app.models")
    for table in import_module("app.models.base").Base.metadata.sorted_tables:
        row = {column.name: value(column.type) for column in table.columns}
        for key in table.foreign_keys:
            if key.column.table in made:
                row[key.parent.name] = made[key.column.table][key.column.name]
            else:  # the table refers to itself
                row[key.parent.name] = None
        connection.execute(table.insert().values(row))
        made[table] = row


def dump(connection: sa.Connection) -> dict[str, list[dict[str, Any]]]:
    found = sa.MetaData()
    found.reflect(connection)
    return {
        name: [dict(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()]
        for name, table in found.tables.items()
        if name != "alembic_version"
    }


async def main(fills: bool, urls: list[str]) -> None:
    settings = import_module("app.core.config").Settings
    open_database = import_module("app.core.database").open_database
    held: dict[str, Any] = {}
    for url in urls:
        async with open_database(settings(database_url=url)) as database, database.engine.begin() as connection:
            if fills:
                await connection.run_sync(fill)
            held[url] = await connection.run_sync(dump)
    json.dump(held, sys.stdout, default=str)


sys.path.insert(0, os.getcwd())
asked = sys.argv[1:]
asyncio.run(main("--fill" in asked, [url for url in asked if url != "--fill"]))
