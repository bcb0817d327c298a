"""Tests many chats at once against one real server process."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import IO
from uuid import uuid4

import asyncpg
import pytest
from conftest import Render
from matrix import MATRIX
from processes import environment, succeed
from services import POSTGRESQL, database, databases

pytestmark = [pytest.mark.load, pytest.mark.slow]
CHATS = 500
CONNECTIONS = 20 + 1
"""Counts those of the pool, and that of the listener for background jobs."""


@pytest.fixture(params=databases())
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with database(request.param) as url:
        yield url


@pytest.fixture
def port(render: Render, database_url: str) -> Iterator[int]:
    with served(render, database_url) as (port, _):
        yield port


@contextmanager
def served(render: Render, database_url: str, **more: str) -> Iterator[tuple[int, int]]:
    """Serves the largest variant in one process, with a demo model that takes 50 ms a word. Yields its port and id."""
    [largest] = [variant for variant in MATRIX.variants if variant.name == "largest"]
    project = render(**largest.answers)
    settings = {
        "DATABASE_URL": database_url,
        "SECRET_KEY": uuid4().hex,
        "DEMO_MODEL_DELAY": "0.05",
        "REQUESTS_PER_MINUTE": "0",
        "MESSAGES_PER_MINUTE": "0",
        "MAX_CONCURRENT_REPLIES": "0",
        "SOCKETS_PER_USER": "0",
        **more,
    }
    command = [sys.executable, "-m", "app.cli"]
    succeed(*command, "db", "upgrade", cwd=project, **settings)
    serve = [*command, "serve", "--port=0"]
    with subprocess.Popen(
        serve, cwd=project, env=environment(**settings), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        port = port_in(process.stderr)
        rest = Thread(target=process.stderr.read)  # a full pipe would stop the server
        rest.start()
        yield port, process.pid
        process.terminate()
        rest.join()
    assert process.returncode == 0


def port_in(log: IO[str]) -> int:
    said: list[str] = []
    for line in log:
        said.append(line)
        if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError("".join(said))


async def post(port: int, path: str, body: str, content_type: str, token: str = "") -> str:
    """Returns the whole response, read until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /api/v1/{path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
    writer.write(f"{head}Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def sign_in(port: int) -> str:
    account = json.dumps({"email": "ada@example.com", "password": "a long enough phrase"})
    await post(port, "auth/register", account, "application/json")
    form = "username=ada@example.com&password=a+long+enough+phrase"
    answer = await post(port, "auth/login", form, "application/x-www-form-urlencoded")
    return json.loads(answer.split("\r\n\r\n", 1)[1])["access_token"]


async def most_connections(url: str, done: asyncio.Event) -> int:
    """Returns the most connections that the server has to its database until `done`."""
    if not url.startswith("postgresql"):
        return 0
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1"
    watcher, most = await asyncpg.connect(POSTGRESQL), 0
    while not done.is_set():
        most = max(most, await watcher.fetchval(count, url.rsplit("/", 1)[1]))
        await asyncio.sleep(0.05)
    await watcher.close()
    return most


async def chat_all_at_once(port: int, url: str) -> tuple[list[str], int]:
    token, done = await sign_in(port), asyncio.Event()
    watching = asyncio.create_task(most_connections(url, done))
    body = json.dumps({"content": "hello"})
    chats = [post(port, "chat/messages/stream", body, "application/json", token) for _ in range(CHATS)]
    answers = await asyncio.gather(*chats)
    done.set()
    return answers, await watching


def test_every_chat_completes_with_few_connections(port: int, database_url: str) -> None:
    answers, connections = asyncio.run(chat_all_at_once(port, database_url))
    assert len(answers) == CHATS
    for answer in answers:
        assert answer.count("event: message.delta") >= 20
        assert answer.count("event: message.completed") == 1
    assert connections <= CONNECTIONS + 1  # the heartbeat has one of its own
    assert (connections > 0) == database_url.startswith("postgresql")
