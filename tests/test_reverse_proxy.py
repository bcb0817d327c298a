"""Tests the server behind a real nginx that strips a prefix, compresses what it may, and keeps connections open."""

import asyncio
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from urllib.parse import urljoin

import httpx2
import pytest
from databases import folder_of_servers, program, running
from servers import Project, free_port, signed_in

pytestmark = [pytest.mark.deep, pytest.mark.slow]
CONFIGURATION = """
daemon off;
pid {folder}/pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
    gzip_proxied any;
    gzip_min_length 0;
    gzip_types *;
    upstream bot {{ server 127.0.0.1:{upstream}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location /bot/ {{
            proxy_pass http://bot/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }}
    }}
}}
"""


@contextmanager
def nginx(upstream: int) -> Iterator[str]:
    """Yields the address at which requests reach the server, without the last part of the path."""
    port = free_port()
    with folder_of_servers() as folder:
        (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, upstream=upstream, port=port))
        command = (program("nginx"), "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf")
        with running(*command, until="start worker process"):
            yield f"http://127.0.0.1:{port}/bot"


def test_a_prefix_that_is_stripped(single: Project) -> None:
    """Follows the links of the documentation as a browser does."""

    async def run() -> None:
        async with single.serve(ROOT_PATH="/bot", ENVIRONMENT="local") as server, httpx2.AsyncClient() as client:
            with nginx(int(server.url.rpartition(":")[2])) as url:
                page = (await client.get(f"{url}/docs")).text
                found = re.findall(r"url: '([^']+)'", page)
                assert found == ["/bot/openapi.json"]
                document = (await client.get(urljoin(url, found[0]))).json()
                assert document["servers"] == [{"url": "/bot"}]
                flow = document["components"]["securitySchemes"]["bearer"]["flows"]["password"]
                assert flow["tokenUrl"] == "/bot/api/v1/auth/login"
                async with signed_in(url) as ada:
                    form = {"username": "ada@example.com", "password": "a long enough phrase"}
                    assert (await ada.post(urljoin(url, flow["tokenUrl"]), data=form)).status_code == 200
                    agent = {"name": "Helper", "model_name": "demo"}
                    made = (await ada.post(f"{url}/api/v1/agents", json=agent)).json()
                    queued = await ada.post(f"{url}/api/v1/agents/{made['id']}/execute", json={"input": "Hello"})
                    assert (await ada.get(urljoin(url, queued.headers["location"]))).status_code == 200
                assert (await client.head(f"{url}/health/ready")).status_code == 200
            assert await server.end(signal.SIGTERM) == 0

    asyncio.run(run())


def test_a_stream_comes_as_it_is_made(single: Project) -> None:
    """Reads a reply that takes seconds, as a client that would take it compressed."""

    async def run() -> None:
        async with single.serve(ROOT_PATH="/bot") as server:
            with nginx(int(server.url.rpartition(":")[2])) as url:
                async with signed_in(url) as ada:
                    body = {"content": "One two three four five six seven eight nine ten"}
                    times, began = list[float](), monotonic()
                    stream = ada.stream("POST", f"{url}/api/v1/chat/messages/stream", json=body)
                    async with stream as answer:
                        async for _ in answer.aiter_bytes():
                            times.append(monotonic() - began)
                assert len(times) > 10
                assert times[1] < times[-1] / 2
            assert await server.end(signal.SIGTERM) == 0

    asyncio.run(run())
