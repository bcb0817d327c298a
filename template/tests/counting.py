"""Counts the statements that requests send to the database, and how many rows it reads to answer them."""

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
from fastapi import FastAPI
from sqlalchemy import event
from structlog.contextvars import get_contextvars

from app.core.database import Database

FEW = 200
"""Limits how many rows one statement may read."""

OF_A_ROW = 140
"""Allows this many SQLite instructions for each row that is read."""
Executed = tuple[str, Any]


@contextmanager
def listening(app: FastAPI, **listeners: Callable[..., None]) -> Iterator[None]:
    """Registers listeners for events of the engine meanwhile; their keywords are the names of SQLAlchemy's events."""
    engine = app.state.database.engine.sync_engine
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)


@contextmanager
def statements(app: FastAPI) -> Iterator[list[str]]:
    """Collects the statements of requests meanwhile, without those that the process sends by itself every second."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not re.search(
            r"^BEGIN|\bprocesses\b|(NOT messages\.stop_requested|messages\.stop_requested = 0) AND|SET content",
            statement,
        ):
            found.append(statement)

    with listening(app, before_cursor_execute=note):
        yield found


@dataclass
class Cost:
    """Counts what one request costs, whatever else the process does."""

    statements: list[str] = field(default_factory=list[str])
    connections: int = 0
    """Counts the most connections that the request held at once."""
    held: int = 0


async def cost_of_reading(app: FastAPI, client: httpx2.AsyncClient, path: str) -> Cost:
    cost, request_id = Cost(), uuid4().hex
    with counting(app, cost, request_id):
        answer = await client.get(path, headers={"X-Request-ID": request_id})
    assert answer.status_code < 300, answer.text
    return cost


@contextmanager
def counting(app: FastAPI, cost: Cost, request_id: str) -> Iterator[None]:
    def is_its_own() -> bool:
        return get_contextvars().get("request_id") == request_id

    def execute(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if is_its_own():
            cost.statements.append(statement)

    def take(*_: Any) -> None:
        if is_its_own():
            cost.held += 1
            cost.connections = max(cost.connections, cost.held)

    def give_back(*_: Any) -> None:
        if is_its_own():
            cost.held -= 1

    with listening(app, before_cursor_execute=execute, checkout=take, checkin=give_back):
        yield


@contextmanager
def executed(app: FastAPI, about: str) -> Iterator[list[Executed]]:
    """Collects the statements that contain `about`, with their values; only the last of those with equal text."""
    found: dict[str, Any] = {}

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, many: bool) -> None:
        if about in statement and not statement.startswith("INSERT") and not many:
            found[statement] = values

    told: list[Executed] = []
    with listening(app, before_cursor_execute=note):
        yield told
    told += found.items()


async def assert_little_is_read(database: Database, found: Sequence[Executed]) -> None:
    """Asserts that the plans of these statements read few rows; on PostgreSQL it checks their generic plans."""
    assert found
    for statement, values in found:
        assert await explained(database, statement, values) == [], statement


async def explained(database: Database, statement: str, values: Any) -> list[str]:
    """Lists the steps of the plan that read too many rows; on SQLite, the instructions if they are too many."""
    if database.url.get_backend_name() == "postgresql":
        return [str(step) for step in await _planned(database, statement, values) if looked_at(step) > FEW]
    instructions = await asyncio.to_thread(_run, str(database.url.database), statement, values)
    return [f"{instructions} instructions"] if instructions > FEW * OF_A_ROW else []


def _run(file: str, statement: str, values: Sequence[Any]) -> int:
    """Returns how many instructions SQLite needs for the statement, and rolls its changes back."""
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    with closing(sqlite3.connect(file)) as connection:
        connection.set_progress_handler(tick, 100)
        connection.execute(statement, values).fetchall()
    return 100 * ticks


def looked_at(step: dict[str, Any]) -> int:
    return (step["Actual Rows"] + step.get("Rows Removed by Filter", 0)) * step["Actual Loops"]


async def _planned(database: Database, statement: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    async with _transaction(database) as connection:
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE asked AS {statement}")
        told = ", ".join("NULL" if value is None else "'{}'".format(str(value).replace("'", "''")) for value in values)
        execute = f"EXECUTE asked({told})" if values else "EXECUTE asked"
        [plan] = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {execute}"))
    return list(_steps(plan["Plan"]))


@asynccontextmanager
async def _transaction(database: Database) -> AsyncGenerator[Any]:
    """Opens a transaction that is rolled back."""
    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


def _steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for step in plan.get("Plans", []):
        yield from _steps(step)
