"""Sends requests over connections that stay open, which costs the client less than the server."""

import asyncio
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

CONNECTIONS = 16
LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")


def request(method: str, path: str, token: str = "", body: object = None) -> bytes:
    """Builds an HTTP request. A body that is a string is sent as a form, and any other as JSON."""
    kind = "application/x-www-form-urlencoded" if isinstance(body, str) else "application/json"
    sent = (body if isinstance(body, str) else "" if body is None else json.dumps(body)).encode()
    proof = f"Authorization: Bearer {token}\r\n" if token else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{proof}"
    return f"{head}Content-Type: {kind}\r\nContent-Length: {len(sent)}\r\n\r\n".encode() + sent


async def hammer(port: int, asked: bytes, count: int, connections: int = CONNECTIONS) -> list[float]:
    """Returns the seconds until each request was answered. Raises AssertionError unless all succeeded."""
    each = [count // connections] * connections
    return [seconds for found in await asyncio.gather(*(_ask(port, asked, n) for n in each)) for seconds in found]


async def cost(port: int, process_id: int, asked: bytes, count: int, connections: int = CONNECTIONS) -> float:
    """Returns the server's milliseconds of CPU for one request, once it is warm."""
    await hammer(port, asked, max(count // 10, connections), connections)
    before = cpu(process_id)
    done = await hammer(port, asked, count, connections)
    return 1000 * (cpu(process_id) - before) / len(done)


def cpu(process_id: int) -> float:
    """Returns the CPU seconds that a process has used."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def late(seconds: Sequence[float]) -> float:
    """Returns the 99th percentile."""
    return sorted(seconds)[int(len(seconds) * 0.99)]


async def _ask(port: int, asked: bytes, count: int) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took: list[float] = []
    for _ in range(count):
        began = perf_counter()
        writer.write(asked)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 2"), head
        await reader.readexactly(int(LENGTH.findall(head)[0]))
        took.append(perf_counter() - began)
    writer.close()
    return took
