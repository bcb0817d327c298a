"""Run in a project: `fill` puts a row into every table of its models, `dump` prints what all tables hold, as JSON."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from importlib import import_module
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

PLAIN = {sa.Uuid: uuid4, sa.DateTime: lambda: datetime.now(UTC), sa.Boolean: lambda: False, sa.JSON: dict}


def value(kind: Any) -> Any:
    """Something that a column of this type takes; a text is no other row's."""
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
            else:  # itself
                row[key.parent.name] = None
        connection.execute(table.insert().values(row))
        made[table] = row


def dump(connection: sa.Connection) -> None:
    found = sa.MetaData()
    found.reflect(connection)
    tables = {
        name: [dict(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()]
        for name, table in found.tables.items()
        if name != "alembic_version"
    }
    json.dump(tables, sys.stdout, default=str)


async def main(what: str) -> None:
    settings = import_module("app.core.config").Settings()
    opened = import_module("app.core.database").open_database(settings)
    async with opened as database, database.engine.begin() as connection:
        await connection.run_sync({"fill": fill, "dump": dump}[what])


sys.path.insert(0, os.getcwd())
asyncio.run(main(sys.argv[1]))
