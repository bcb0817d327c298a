"""Connects to the servers that tests use where they are reachable: PostgreSQL and Redis."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

POSTGRESQL = os.environ.get("TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
SERVICES = {"PostgreSQL": POSTGRESQL, "Redis": REDIS}
REQUIRED = os.environ.get("REQUIRE_SERVICES") == "1"


def unreachable() -> list[str]:
    return [name for name, url in SERVICES.items() if not _listens(url)]


def databases() -> list[str]:
    """Returns the kinds of database that tests run on."""
    return ["sqlite"] if "PostgreSQL" in unreachable() else ["sqlite", "postgresql"]


@contextmanager
def database(kind: str) -> Iterator[str]:
    """Yields the address of an empty database, which is removed afterwards."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/app.db"
        return
    name = f"test_{uuid4().hex}"
    asyncio.run(_execute(f"CREATE DATABASE {name}"))
    try:
        yield urlsplit(POSTGRESQL)._replace(path=f"/{name}").geturl()
    finally:
        asyncio.run(_execute(f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(statement: str) -> None:
    connection = await asyncpg.connect(POSTGRESQL, timeout=5)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0), timeout=5).close()
    except OSError:
        return False
    return True
