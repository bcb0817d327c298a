"""Streams chats, and serves programs beside a project to compare it with."""

import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from uuid import uuid4

from hammer import cost, cpu, request
from processes import environment

LIMITS = {
    "TOKENS_PER_DAY": "1000000000",
    "DOLLARS_PER_MONTH": "100000",
    "SOCKETS_PER_USER": "100000",
    "LOG_LEVEL": "INFO",
}
"""Enables limits that are never reached."""
DEMO_WORDS = 39
"""Counts the words of the demo model's answer to `hello`."""


@dataclass(frozen=True)
class Heard:
    first: float
    """Counts the seconds until the first word."""
    words: int
    whole: bool
    """Tells whether all of the reply came: the pieces make up the message at the end."""


@contextmanager
def serving(app: str, **settings: str) -> Iterator[tuple[int, int]]:
    """Starts a program of limit.py, and yields its port and process id."""
    command = [sys.executable, str(Path(__file__).with_name("limit.py")), app]
    with subprocess.Popen(command, env=environment(**settings), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield int(process.stdout.readline()), process.pid
        process.terminate()


async def listen(port: int, token: str, after: float, **more: str) -> Heard:
    await asyncio.sleep(after)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"content": "hello", **more})
    head = "POST /api/v1/chat/messages/stream HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
    head += f"Idempotency-Key: {uuid4()}\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    began, first, text, told = monotonic(), 0.0, "", None
    writer.write(f"{head}{body}".encode())
    event = b""
    async for line in reader:
        if line.startswith(b"event: "):
            event = line[7:].strip()
        elif line.startswith(b"data: ") and event in (b"message.delta", b"message.completed"):
            data = json.loads(line[6:])
            first = first or monotonic() - began
            text += data.get("text", "")
            told = data.get("message", {}).get("content")
    writer.close()
    return Heard(first, len(text.split()), bool(text) and text == told)


async def listen_to_all(port: int, token: str, count: int, arrival: float) -> list[Heard]:
    return await asyncio.gather(*(listen(port, token, arrival * number / count) for number in range(count)))


NATIVE, OPENAI, AI_SDK = "/api/v1/chat/messages/stream", "/v1/chat/completions", "/api/v1/ai-sdk/chat"
"""Names the paths that stream a reply, each in the language of its clients."""


def asking(path: str, agent_id: str | None) -> dict[str, object]:
    """Returns the body that asks a plain model, or an agent, for a stream in a new conversation."""
    if path == NATIVE:
        return {"content": "hello", "agent_id": agent_id}
    if path == OPENAI:
        model = "demo" if agent_id is None else f"agent:{agent_id}"
        return {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True}
    message = {"id": "first", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
    asked = {"id": uuid4().hex, "messages": [message], "trigger": "submit-message"}
    return asked if agent_id is None else {**asked, "agent_id": agent_id}


async def read_stream(port: int, asked: bytes) -> int:
    """Returns the number of bytes that a stream has."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(asked.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer
    assert b"[DONE]" in body or b"message.completed" in body, answer
    return len(body)


async def beside_native(
    measured: tuple[int, int, str], agent_id: str | None, path: str, rounds: int = 5, at_once: int = 80
) -> list[float]:
    """Returns the CPU of a stream in another language as a multiple of the native one's, for each round.

    `measured` has the port of the server, its process id and an access token.
    """
    port, process_id, token = measured

    async def cost(path: str) -> float:
        before = cpu(process_id)
        bodies = [asking(path, agent_id) for _ in range(at_once)]
        await asyncio.gather(*(read_stream(port, request("POST", path, token, body)) for body in bodies))
        return cpu(process_id) - before

    for each in (NATIVE, path):
        await cost(each)
    found = list[float]()
    for _ in range(rounds):
        native, other = await cost(NATIVE), await cost(path)
        found.append(other / native)
    return found


@dataclass(frozen=True)
class Beside:
    """Compares replies of an agent without tools with plain ones of the same server, which take turns."""

    times: list[float]
    """Holds the CPU of a reply as a multiple of a plain one's, for each round."""
    later: float
    """Counts the seconds by which the first word comes later, as the difference of the medians."""


async def beside_plain(port: int, process_id: int, token: str, agent_id: str, rounds: int = 5) -> Beside:
    """Measures on a server whose demo model waits for nothing."""
    body = {"content": "hello"}
    asked = [request("POST", "/api/v1/chat/messages", token, each) for each in (body, {**body, "agent_id": agent_id})]
    times, firsts = list[float](), ([], [])
    for _ in range(rounds):
        plain, agents = [await cost(port, process_id, each, 160) for each in asked]
        times.append(agents / plain)
        for _ in range(20):
            for found, more in zip(firsts, ({}, {"agent_id": agent_id}), strict=True):
                found.append((await listen(port, token, 0, **more)).first)
    plain, agents = map(statistics.median, firsts)
    return Beside(times, agents - plain)
