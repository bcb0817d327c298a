"""Tests what is read from the web, and what is never requested."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing import active_children
from typing import Any

import pytest

from app.core.errors import SetupError
from app.services.agents.toolbox import Tool, Toolbox, ToolError, ToolSettings, registry
from app.services.processes import process_pool
from app.services.tools.fetch import FetchSettings, fetch_tool, make_tools
from tests.calls import call, context, refused

TOO_COMPLEX = "The page is too complex to be read."
UNREADABLE = "The page cannot be read: its address is wrong or not public, or it is too long or redirects too often."
PAGE = "<head><title>Plans</title></head><script>1</script><h1>Plan</h1><p>Go to <a href='/x'>Rome</a>.</p>"
LIMIT = 1_000
NOT_PUBLIC = {
    "this machine": ["127.0.0.1", "127.0.0.1.", "127.9.9.9", "0", "0.1.2.3", "[::1]", "[::]", "user:pw@127.0.0.1"],
    "in other words": ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "①②⑦.0.0.1", "localhost"],
    "private": ["10.1.2.3", "172.16.0.1", "192.168.0.1", "100.64.0.1", "[fc00::1]", "[fec0::1]"],
    "of no use": ["198.18.0.1", "224.0.0.1", "255.255.255.255", "[ff02::1]", "[2001:db8::1]"],
    "of this link": ["169.254.0.1", "[fe80::1]", "[fe80::1%25eth0]"],
    "of a cloud": ["169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "[fd00:ec2::254]"],
    "IPv4 within IPv6": ["[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[::127.0.0.1]", "[2002:7f00:1::]"],
    "translated": ["[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::127.0.0.1]", "[2001:0:1::1]"],
}
NO_ADDRESSES = [
    "",
    "page",
    "//page.example",
    "ftp://page.example",
    "file:///etc/passwd",
    "http://",
    "http://[/",
    "http://page.example:99999",
    "http://a b/",
    "http://\0/",
    f"http://{'a' * 300}.example/",
    "http://a..b/",
]


@dataclass
class Site:
    port: int = 0
    heads: list[str] = field(default_factory=list[str])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        answer = self.answers()[self.heads[-1].split()[1]]
        writer.write(answer if isinstance(answer, bytes) else answer.encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def answers(self) -> Mapping[str, str | bytes]:
        return {
            "/": _page("text/html; charset=utf-8", PAGE),
            "/text": _page("text/plain", "a" * LIMIT),
            "/long": _page("text/plain", "a" * (LIMIT + 1)),
            "/image": _page("image/png", "\x89PNG"),
            "/bomb": _zipped(bytes(50_000_000)),
            "/strange": _page("text/html; charset=rot_13", PAGE),
            "/deep": _page("text/html", "<b>" * 5_000),
            "/hostile": _page("text/html", "<!--" * 40_000),
            "/gone": "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
            "/cut": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut",
            "/moved": _redirect("/text"),
            "/circle": _redirect("/circle"),
            "/metadata": _redirect("http://169.254.169.254/latest/meta-data/"),
            "/file": _redirect("file:///etc/passwd"),
        }


def _page(kind: str, body: str) -> str:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"


def _zipped(body: bytes) -> bytes:
    zipped = gzip.compress(body)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(zipped)}\r\n\r\n"
    return head.encode() + zipped


def _redirect(location: str) -> str:
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def opened() -> AsyncGenerator[Site]:
    site = Site()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    async with server:
        site.port = server.sockets[0].getsockname()[1]
        yield site


@pytest.fixture
async def site() -> AsyncGenerator[Site]:
    async with opened() as site:
        yield site


@pytest.fixture
def anywhere() -> Tool:
    """Returns a tool that may fetch from local servers, which the project's own never does."""
    return fetch_tool(FetchSettings(fetch_max_bytes=LIMIT), allow_local=True)


@pytest.fixture
def fetch_page() -> Tool:
    return registry()["fetch_page"]


async def test_a_page_is_told_as_text(site: Site, anywhere: Tool) -> None:
    assert await call(anywhere, url=site.url) == "Plans\n\nPlan\n====\n\nGo to [Rome](/x)."
    assert await call(anywhere, url=f"{site.url}/text") == "a" * LIMIT
    assert await call(anywhere, url=f"{site.url}/moved") == "a" * LIMIT


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/long", UNREADABLE),
        ("/bomb", UNREADABLE),
        ("/circle", UNREADABLE),
        ("/metadata", UNREADABLE),
        ("/file", UNREADABLE),
        ("/image", "The page is not text but image/png."),
        ("/strange", "The page is written in an unknown encoding."),
        ("/gone", "The page answered with status 410."),
        ("/cut", "The page cannot be reached."),
    ],
)
async def test_a_page_that_is_not_told(path: str, sentence: str, site: Site, anywhere: Tool) -> None:
    assert await refused(anywhere, url=f"{site.url}{path}") == sentence


async def test_a_server_that_is_not_there(anywhere: Tool) -> None:
    async with opened() as site:
        url = site.url
    assert await refused(anywhere, url=url) == "The page cannot be reached."


async def test_the_own_network_is_not_reached(site: Site, fetch_page: Tool) -> None:
    assert await refused(fetch_page, url=site.url) == UNREADABLE
    assert await refused(fetch_page, url=f"http://localhost:{site.port}") == UNREADABLE
    assert not site.heads


@pytest.mark.parametrize("host", [host for hosts in NOT_PUBLIC.values() for host in hosts])
async def test_an_address_that_is_not_public(host: str, fetch_page: Tool) -> None:
    assert await refused(fetch_page, url=f"http://{host}/") == UNREADABLE


@pytest.mark.parametrize("url", NO_ADDRESSES)
async def test_what_is_no_address(url: str, fetch_page: Tool) -> None:
    assert await refused(fetch_page, url=url) == UNREADABLE


async def test_a_name_is_looked_up_once_and_what_was_found_is_reached(
    site: Site, anywhere: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolve(monkeypatch, "127.0.0.1")
    assert await call(anywhere, url=f"http://page.example:{site.port}/text")
    assert asked == ["page.example"]
    assert f"\r\nHost: page.example:{site.port}\r\n" in site.heads[0]


@pytest.mark.parametrize("found", [["10.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::ffff:10.0.0.1"]])
async def test_a_name_is_refused_for_any_of_its_addresses(
    found: list[str], fetch_page: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, *found)
    assert await refused(fetch_page, url="https://page.example/") == UNREADABLE


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Resolves every name to these addresses, as its owner may at any time; returns the names that are looked up."""
    asked: list[str] = []

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


async def test_a_site_that_says_nothing_has_no_more_time_than_any_tool(anywhere: Tool) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        box = Toolbox({"fetch_page": anywhere}, ToolSettings(tool_timeout_seconds=0.1))
        with pytest.raises(ToolError, match="stopped after"):
            await box.call("fetch_page", context(), json.dumps({"url": url}))


async def test_a_page_that_keeps_a_parser_busy_ends_with_its_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the process that parses the page as well."""
    fetch_page = fetch_tool(FetchSettings(), allow_local=True)
    assert await refused(fetch_page, url=f"{site.url}/deep") == TOO_COMPLEX
    before = {process.pid for process in active_children()}
    monkeypatch.setattr(process_pool, "SECONDS", 0.2)
    assert await refused(fetch_page, url=f"{site.url}/hostile") == TOO_COMPLEX
    assert {process.pid for process in active_children()} < before


def test_its_limit_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCH_MAX_BYTES", "-1")
    with pytest.raises(SetupError, match="FETCH_MAX_BYTES"):
        make_tools()
