"""Reads the database's clock, on which processes of several machines agree, whatever their own clocks say."""

from datetime import datetime
from typing import Any

from sqlalchemy import Float, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import DateTime


class seconds_ago(FunctionElement[datetime]):
    """Stands in SQL for the database's time `seconds` ago, which can be compared with every column of times."""

    inherit_cache = True
    type = DateTime(timezone=True)

    def __init__(self, seconds: float = 0) -> None:
        super().__init__(bindparam(None, seconds, Float(), unique=True))


@compiles(seconds_ago, "postgresql")
def _on_postgresql(element: seconds_ago, compiler: Any, **options: Any) -> str:
    return f"(clock_timestamp() - make_interval(secs => {compiler.process(element.clauses, **options)}))"


@compiles(seconds_ago, "sqlite")
def _on_sqlite(element: seconds_ago, compiler: Any, **options: Any) -> str:
    """Writes the time in the form in which SQLite stores times, which it compares as text."""
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', (-{seconds}) || ' seconds')"
