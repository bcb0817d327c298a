"""Measures the memory that a server needs for large uploads, and for many texts that are read aloud at once."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Render
from test_load import served, sign_in

pytestmark = [pytest.mark.deep, pytest.mark.load, pytest.mark.slow]
MEGABYTE = 1_000_000
UPLOAD = 20 * MEGABYTE
SILENCE = (
    b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x02\0\x00\xee\x02\0\x00\xb8\x0b\0\x04\0\x10\0data\xff\xff\xff\xff"
)
"""Begins a WAV file of 192,000 samples a second, on two channels."""
AT_ONCE = 50
TEXT = "The quick brown fox jumps over the lazy dog, and nobody knows why it does. " * 16
HEAD = "POST /api/v1/speech/{} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {}\r\n"
HEAD += "Content-Type: {}\r\nContent-Length: {}\r\n\r\n"


@dataclass(frozen=True)
class Server:
    port: int
    process_id: int

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process_id}/clear_refs").write_text("5")

    def memory(self, name: str) -> int:
        """Returns bytes: `VmRSS` is the memory now, `VmHWM` its peak."""
        status = Path(f"/proc/{self.process_id}/status").read_text()
        return int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) * 1024


@pytest.fixture
def server(render: Render, tmp_path: Path) -> Iterator[Server]:
    with served(render, f"sqlite:///{tmp_path}/app.db", MAX_CONCURRENT_SPEECH="0") as (port, process_id):
        yield Server(port, process_id)


async def post(server: Server, path: str, token: str, content_type: str, body: bytes) -> tuple[int, int, bytes]:
    """Returns the status of the response, its length, and how it begins."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(HEAD.format(path, token, content_type, len(body)).encode() + body)
    await writer.drain()
    start, length = b"", 0
    while chunk := await reader.read(65_536):
        start, length = (start + chunk)[:4096], length + len(chunk)
    writer.close()
    return int(start.split()[1]), length, start


async def upload(server: Server, token: str, size: int) -> tuple[int, bytes]:
    file = SILENCE + bytes(size - len(SILENCE))
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = part + file + b"\r\n--x--\r\n"
    status, _, start = await post(server, "transcribe", token, "multipart/form-data; boundary=x", body)
    return status, start


async def read_aloud(server: Server, token: str) -> tuple[int, int]:
    status, length, _ = await post(server, "synthesize", token, "application/json", json.dumps({"text": TEXT}).encode())
    return status, length


async def growth(server: Server) -> tuple[int, int, int]:
    """Returns by how many bytes an upload and many texts read at once raise the peak, and the length of the audio."""
    token = await sign_in(server.port)
    await upload(server, token, MEGABYTE)
    assert (await read_aloud(server, token))[0] == 200
    server.forget_peak()
    before = server.memory("VmRSS")
    status, start = await upload(server, token, UPLOAD)
    assert status == 422
    assert b"Nothing can be heard in this audio." in start
    uploading = server.memory("VmHWM") - before
    server.forget_peak()
    before = server.memory("VmRSS")
    answers = await asyncio.gather(*(read_aloud(server, token) for _ in range(AT_ONCE)))
    assert {status for status, _ in answers} == {200}
    return uploading, server.memory("VmHWM") - before, sum(length for _, length in answers)


def test_memory_stays_flat(server: Server) -> None:
    uploading, reading, audio = asyncio.run(growth(server))
    print(
        f"upload: {uploading / MEGABYTE:.1f} MB, {AT_ONCE} texts: {reading / MEGABYTE:.1f} of {audio / MEGABYTE:.0f} MB"
    )
    assert uploading < UPLOAD / 2
    assert audio > 100 * MEGABYTE
    assert reading < audio / 5
