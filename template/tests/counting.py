"""What requests ask the database for."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2
from fastapi import FastAPI
from sqlalchemy import event
from structlog.contextvars import get_contextvars


@contextmanager
def listening(app: FastAPI, **listeners: Callable[..., None]) -> Iterator[None]:
    """To what happens to the engine meanwhile, by the names of SQLAlchemy's events."""
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
    """Those that requests cost meanwhile, without what the process does by itself every second."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not re.search(r"^BEGIN|\bprocesses\b|messages\.stop_requested( = 1)? OR|SET content", statement):
            found.append(statement)

    with listening(app, before_cursor_execute=note):
        yield found


@dataclass
class Cost:
    """Of one request, whatever else the process does."""

    statements: list[str] = field(default_factory=list[str])
    connections: int = 0
    """The most that it had at once."""
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
