"""The database's clock: processes on several machines agree on it, whatever their own clocks say."""

from datetime import datetime
from typing import Any

from sqlalchemy import Float, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import DateTime


class seconds_ago(FunctionElement[datetime]):
    """So many seconds before now, as the database knows it. Compares with every column of times."""

    inherit_cache = True
    type = DateTime(timezone=True)

    def __init__(self, seconds: float = 0) -> None:
        super().__init__(bindparam(None, seconds, Float(), unique=True))


@compiles(seconds_ago, "postgresql")
def _on_postgresql(element: seconds_ago, compiler: Any, **options: Any) -> str:
    return f"(clock_timestamp() - make_interval(secs => {compiler.process(element.clauses, **options)}))"


@compiles(seconds_ago, "sqlite")
def _on_sqlite(element: seconds_ago, compiler: Any, **options: Any) -> str:
    """In the form in which times are stored there."""
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', (-{seconds}) || ' seconds')"
