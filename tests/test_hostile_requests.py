"""Tests that no request and no frame, however made, blocks a server's event loop for long or gets a long answer."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from grammar import bodies, forms, requests
from servers import Project, signed_in
from services import database
from websockets.asyncio.client import connect

pytestmark = [pytest.mark.deep, pytest.mark.faults, pytest.mark.slow]
ALLOWED = 0.1
"""Limits the seconds that the loop may work without a break."""
ANSWER_BYTES = 8_192
BODY_BYTES, FRAME_BYTES, HEAD_BYTES = 1_048_576, 524_288, 30_000
OF_A_ROUTE, TRIES = 20, 3
UNLIMITED = {"LOGIN_ATTEMPTS_PER_MINUTE": "0", "LOGIN_FAILURES_PER_HOUR": "0", "REGISTRATIONS_PER_HOUR": "0"}
PAUSES, SOCKET = "/api/v1/pauses", "/api/v1/chat/ws"


@dataclass
class Victim:
    client: httpx2.AsyncClient
    url: str
    worst: list[tuple[float, str]]

    async def send(self, method: str, path: str, name: str, **request: Any) -> None:
        async def attempt() -> None:
            answer = await self.client.request(method, f"{self.url}{path}", **request)
            assert answer.status_code < 500, (name, answer.text)
            assert answer.is_success or len(answer.content) < ANSWER_BYTES, (name, answer.text[:1_000])

        await self.note(f"{method} {path.partition('?')[0]}: {name}", attempt)

    async def note(self, name: str, attempt: Callable[[], Awaitable[None]]) -> None:
        """Records the shortest pause of several tries, since a long one may come from what happens now and then."""
        pauses: list[float] = []
        while len(pauses) < TRIES and min(pauses, default=ALLOWED) >= ALLOWED:
            await attempt()
            pauses.append((await self.client.get(f"{self.url}{PAUSES}")).json())
        self.worst.append((min(pauses), name))

    def check(self) -> None:
        self.worst.sort(reverse=True)
        print(*(f"{1000 * seconds:6.1f} ms {name}" for seconds, name in self.worst[:25]), sep="\n")
        assert self.worst[0][0] < ALLOWED, self.worst[0]


@pytest.fixture
def project(folder: Path, tmp_path: Path) -> Iterator[Project]:
    copy = shutil.copytree(folder, tmp_path / "project")
    shutil.copy(Path(__file__).with_name("pauses.py"), copy / "app" / "api" / "v1")
    with database("sqlite") as url:
        yield Project(copy, DATABASE_URL=url, **UNLIMITED)


@asynccontextmanager
async def victim(project: Project) -> AsyncIterator[Victim]:
    async with project.serve() as server, signed_in(server.url) as client:
        found = Victim(client, server.url, [])
        await client.get(f"{server.url}{PAUSES}")  # resets the measurement, which includes the start
        yield found
        found.check()
        answer = await client.get(f"{server.url}/api/v1/info")
        assert answer.json()["user"]


def attack(project: Project, how: Any) -> None:
    async def run() -> None:
        async with victim(project) as found:
            await how(found)

    asyncio.run(run())


def test_bodies(project: Project) -> None:
    async def send(victim: Victim) -> None:
        random = Random(1)
        for method, path, fields in routes((await victim.client.get(f"{victim.url}/openapi.json")).json()):
            every = list(bodies(fields, BODY_BYTES, random))
            chosen = every if path.endswith(("/register", "/agents")) else random.sample(every, OF_A_ROUTE)
            for name, body in chosen:
                headers = {"Content-Type": "application/json"}
                await victim.send(method, path, name, content=body, headers=headers)

    attack(project, send)


def routes(document: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Yields the routes that take JSON, each with the names of its fields."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            if schema := content.get("application/json", {}).get("schema"):
                found = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
                parts = [str(uuid4()) if part.startswith("{") else part for part in path.split("/")]
                yield method.upper(), "/".join(parts), list(found["properties"])


def test_forms(project: Project) -> None:
    async def send(victim: Victim) -> None:
        for name, kind, body in forms(BODY_BYTES):
            for path in ("/api/v1/auth/login", "/api/v1/speech/transcribe"):
                await victim.send("POST", path, name, content=body, headers={"Content-Type": kind})

    attack(project, send)


def test_queries_and_headers(project: Project) -> None:
    async def send(victim: Victim) -> None:
        for name, query, headers in requests(HEAD_BYTES):
            for method, path in (("GET", "/api/v1/conversations"), ("OPTIONS", "/nowhere"), ("GET", "/health/ready")):
                await victim.send(method, f"{path}?{query}" if query else path, name, headers=headers)

    attack(project, send)


def test_frames(project: Project) -> None:
    fields = {"send": ["type", "content", "model"], "resume": ["type", "offset"], "auth": ["type", "token"]}

    async def send(victim: Victim) -> None:
        for kind, names in fields.items():
            for name, body in bodies(names, FRAME_BYTES - 20, Random(2)):
                frame = body.replace(b'"type":"1"', f'"type":"{kind}"'.encode()).decode(errors="ignore")
                await victim.note(f"{kind}: {name}", partial(say, victim, frame))
        for name, body in bodies(fields["auth"], FRAME_BYTES - 20, Random(3)):
            await victim.note(f"first: {name}", partial(enter, victim, body.decode(errors="ignore")))

    attack(project, send)


async def say(victim: Victim, frame: str) -> None:
    token = victim.client.headers["Authorization"].removeprefix("Bearer ")
    async with connect(f"{victim.url.replace('http', 'ws')}{SOCKET}", subprotocols=["bearer", token]) as socket:  # pyright: ignore
        await socket.send(frame)
        assert len(await socket.recv()) < ANSWER_BYTES, frame[:100]


async def enter(victim: Victim, frame: str) -> None:
    async with connect(f"{victim.url.replace('http', 'ws')}{SOCKET}") as socket:
        await socket.send(frame)
        await socket.wait_closed()
