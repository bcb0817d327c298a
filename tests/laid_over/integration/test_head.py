"""Tests that HEAD is answered like GET, without the body, at every path, including those that are added later."""

import asyncio
from collections.abc import AsyncGenerator

import httpx2
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from tests.conftest import client_for, running
from tests.integration.test_sweeps import operations
from tests.owned.case import cases

OF_ONE_ANSWER = {"date", "x-request-id", "content-length"}


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    """Yields an application that runs what is queued, since streams end with it."""
    async with running(settings, is_server=True) as app:
        yield app


async def heads(client: httpx2.AsyncClient, path: str) -> tuple[httpx2.Response, httpx2.Response]:
    async with asyncio.timeout(10):  # a stream that does not end would hold its slot
        return await client.head(path), await client.get(path)


async def test_every_get_has_a_head(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    paths = [path for method, path, _ in operations(app) if method == "get" and "{user_id}" not in path]
    costly = [path for path in paths if path.endswith("/audio")]
    for path in costly:  # whoever asks for nothing does not pay
        assert (await alice.head(path)).status_code == 405, path
    paths = [path for path in paths if path not in costly]
    assert paths
    for path in ("/health", "/docs", "/openapi.json", "/nowhere", *paths):
        case = cases().get(path)
        head, get = await heads(alice, await case.make(alice) if case else path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers.keys() - OF_ONE_ANSWER == get.headers.keys() - OF_ONE_ANSWER, path


@pytest.mark.parametrize("path", ["/api/v1/auth/login", "/api/v1/auth/logout"])
async def test_what_has_no_get_has_no_head(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.head(path)).status_code == 405


async def test_a_probe_by_head_tells_what_is_down(app: FastAPI, client: httpx2.AsyncClient) -> None:
    assert (await client.head("/health/ready")).status_code == 200
    app.state.checks["database"] = app.state.checks["database"].__class__(asyncio.Event().wait)
    assert (await client.head("/health/ready")).status_code == 503


async def test_probes_are_answered_with_and_without_the_prefix(settings: Settings) -> None:
    async with running(settings.model_copy(update={"root_path": "/bot"})) as app, client_for(app) as client:
        for path in ("/health", "/bot/health", "/health/ready", "/bot/health/ready"):
            assert (await client.get(path)).status_code == 200, path
