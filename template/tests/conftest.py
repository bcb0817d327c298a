"""Gives each test a migrated database of its own, on SQLite and, where a server is reachable, on PostgreSQL.

TEST_DATABASE_URL names that server; databases are created beside the one it names and dropped afterwards. With
REQUIRE_SERVICES=1 an unreachable server is an error.
"""

import asyncio
import gc
import os
import shutil
import socket
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, closing, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest
import uvicorn
from alembic import command
from alembic.config import Config
from fastapi import FastAPI
from sqlalchemy import make_url
from starlette.datastructures import State

from app.core.commands import full_command
from app.core.config import Settings
from app.core.database import Database, open_database
from app.core.logging import configure_logging
from app.main import create_app
from app.models.base import Base

ROOT = Path(__file__).parents[1]
SERVER = make_url(os.environ.get("TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres"))
SECRET_KEY = "only-for-tests-0123456789-abcdefgh"
MAILBOX = TemporaryDirectory(prefix="mailbox-")
"""Holds the e-mails of the processes that tests start."""
UNLIMITED = {
    "requests_per_minute": 0,
    "login_attempts_per_minute": 0,
    "login_failures_per_hour": 0,
    "registrations_per_hour": 0,
    "mails_per_hour": 0,
}
PASSWORD = "correct horse battery staple"
OF_LIFESPANS = ("ai_", "database_", "mailbox_", "redis_", "smtp_")
"""Lists prefixes of settings that are read when an application starts, and not when it is created."""


async def _execute(statement: str) -> None:
    connection = await asyncpg.connect(SERVER.set(drivername="postgresql").render_as_string(False), timeout=5)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _empty(url: str) -> None:
    await end_other_connections(url)
    connection = await asyncpg.connect(url)
    emptied = [str(table.delete()) for table in reversed(Base.metadata.sorted_tables)]
    await connection.execute("; ".join(emptied))
    await connection.close()


async def end_other_connections(url: str) -> None:
    """Ends all other connections to the database, as an administrator or a restart of PostgreSQL does."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()


def _backends() -> list[str]:
    try:
        asyncio.run(_execute("SELECT 1"))
    except (OSError, TimeoutError, asyncpg.PostgresError):
        if os.environ.get("REQUIRE_SERVICES") == "1":
            raise
        return ["sqlite"]
    return ["sqlite", "postgresql"]


BACKENDS = _backends()


def pytest_report_header() -> str:
    return f"databases: {', '.join(BACKENDS)}"


def pytest_collection_finish() -> None:
    """Excludes imported modules from garbage collection: scanning them again and again took a third of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)  # providers are imported later, and are large


@pytest.fixture(autouse=True)
def _only_the_settings_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes settings that a developer has exported, so that they do not decide what a test sees."""
    for name in os.environ:
        is_setting = name.lower() in Settings.model_fields or name.startswith(("OTEL_", "SENTRY_", "TELEMETRY_"))
        if is_setting or name.endswith(("_API_KEY", "_BASE_URL")):
            monkeypatch.delenv(name)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def environment(**settings: str) -> dict[str, str]:
    """Returns environment variables for a process that a test starts, without the developer's own settings."""
    keep = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "SYSTEMROOT", "VIRTUAL_ENV", "COVERAGE_PROCESS_CONFIG")
        if name in os.environ
    }
    unlimited = {name.upper(): str(limit) for name, limit in UNLIMITED.items()}
    fast = {"ARGON2_TIME_COST": "1", "ARGON2_MEMORY_KIB": "32", "DEMO_MODEL_DELAY": "0", "AI_MODEL": "demo"}
    return {**keep, "SECRET_KEY": SECRET_KEY, "MAILBOX_FOLDER": MAILBOX.name, **fast, **unlimited, **settings}


def migrate(url: str) -> None:
    settings = Settings.model_validate({"secret_key": SECRET_KEY, "database_url": url})
    with redirect_stdout(StringIO()):
        command.upgrade(Config(ROOT / "alembic.ini", attributes={"settings": settings}), "heads")


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "app.db"
    migrate(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        made = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if lacking := sorted(Base.metadata.tables.keys() - made):
        write = full_command(f'db revision "add {lacking[0]}"')
        pytest.fail(
            f"No migration makes the table {lacking[0]} yet: write one with {write}, and tests apply it.",
            pytrace=False,
        )
    return path


@pytest.fixture(scope="session")
def migrated_database(migrated_file: Path) -> Generator[str]:
    name = f"test_{uuid4().hex}"
    asyncio.run(_execute(f"CREATE DATABASE {name}"))
    try:
        migrate(SERVER.set(database=name).render_as_string(False))
        yield name
    finally:
        asyncio.run(_execute(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """Yields the address of a migrated, empty database that only this test uses.

    On PostgreSQL the next test gets it again, emptied, since dropping a database takes a second: a test that changes
    tables and not only rows uses `empty_database_url`.
    """
    if request.param == "sqlite":
        path = tmp_path / "app.db"
        shutil.copy(request.getfixturevalue("migrated_file"), path)
        yield f"sqlite:///{path}"
        return
    url = SERVER.set(database=request.getfixturevalue("migrated_database")).render_as_string(False)
    yield url
    asyncio.run(_empty(url))


MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(database_url: str, tmp_path: Path) -> MakeSettings:
    """Makes settings for this test's database and mailbox, with cheap hashes and a demo model without delays."""

    def make(**values: Any) -> Settings:
        fast: dict[str, Any] = {"argon2_time_cost": 1, "argon2_memory_kib": 32, "demo_model_delay": 0}
        own = {"database_url": database_url, "mailbox_folder": str(tmp_path / "mailbox")}
        return Settings(**{"secret_key": SECRET_KEY, **own, **fast, **UNLIMITED, **values})

    return make


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings()


@pytest.fixture
async def database(settings: Settings) -> AsyncGenerator[Database]:
    async with open_database(settings) as database:
        yield database


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    async with running(settings) as app:
        yield app


_idle: list[tuple[dict[str, Any], FastAPI]] = []
"""Holds applications that no test uses at the moment, each with the settings that it was created from."""


@asynccontextmanager
async def running(settings: Settings, *, is_server: bool = False) -> AsyncGenerator[FastAPI]:
    """Starts and stops an application; reuses an idle one of equal settings, since creating routes is slow."""
    configure_logging(settings)
    made_from = {name: value for name, value in settings if not name.startswith(OF_LIFESPANS)}
    app = _taken(made_from) or create_app(settings)
    routes, kept = len(app.routes), {name: app.state[name] for name in app.state}
    app.state.settings, app.state.is_server = settings, is_server
    async with app.router.lifespan_context(app):
        yield app
    if app.routes[routes:]:
        del app.routes[routes:]
        app.openapi_schema = None
    app.state = State(kept)
    _idle.append((made_from, app))


def _taken(made_from: dict[str, Any]) -> FastAPI | None:
    for place, (others, app) in enumerate(_idle):
        if others == made_from:
            del _idle[place]
            return app
    return None


def bound(address: str = "127.0.0.1") -> socket.socket:
    listener = socket.socket()
    listener.bind((address, 0))
    listener.listen()
    return listener


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncGenerator[str]:
    """Serves an application whose lifespan is running already on a free port, and yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    with bound() as listener:
        serving = asyncio.create_task(server.serve([listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


def client_for(app: FastAPI, **headers: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test", headers=headers)


async def log_in(client: httpx2.AsyncClient, email: str, password: str = PASSWORD) -> dict[str, Any]:
    """Returns the tokens."""
    answer = await client.post("/api/v1/auth/login", data={"username": email, "password": password})
    assert answer.status_code == 200, answer.text
    return answer.json()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def sign_in(client: httpx2.AsyncClient, email: str) -> dict[str, str]:
    """Registers and logs in, and returns the Authorization header."""
    await client.post("/api/v1/auth/register", json={"email": email, "password": PASSWORD})
    return bearer((await log_in(client, email))["access_token"])


@pytest.fixture
async def client(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """Yields a client that is not signed in."""
    async with client_for(app) as client:
        yield client


@pytest.fixture
async def alice(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    async with client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        await app.state.worker.drain()  # the e-mail of her registration is no part of what a test counts
        yield client


@pytest.fixture
async def bob(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    async with client_for(app) as client:
        client.headers.update(await sign_in(client, "bob@example.com"))
        yield client


@pytest.fixture(params=BACKENDS)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """Yields the address of a database without tables that only this test uses."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    name = f"test_{uuid4().hex}"
    asyncio.run(_execute(f"CREATE DATABASE {name}"))
    yield SERVER.set(database=name).render_as_string(False)
    asyncio.run(_execute(f"DROP DATABASE {name} WITH (FORCE)"))
