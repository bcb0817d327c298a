"""Tests that every event stream tells proxies to hold nothing back, and is what it is documented as, over real HTTP."""

from collections.abc import AsyncGenerator

import httpx2
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from tests.conftest import listening, running
from tests.integration.test_sweeps import operations
from tests.owned.case import cases, said


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    """Yields an application that runs what is queued, since streams end with it."""
    async with running(settings, is_server=True) as app:
        yield app


async def test_a_stream_is_not_held_back_and_has_the_fields_that_are_documented(
    app: FastAPI, alice: httpx2.AsyncClient
) -> None:
    """Asks each operation whose answer is documented as a stream of events."""
    bodies = {(method, path): body for writes in said("WRITES") for method, path, body in writes}
    async with listening(app) as url, httpx2.AsyncClient(base_url=url, headers=alice.headers) as client:
        for method, path, operation in operations(app):
            content = operation["responses"].get("200", {}).get("content", {})
            if "text/event-stream" not in content:
                continue
            case = cases().get(path)
            place, body = (await case.make(client), case.bodies.get(method)) if case else (path, bodies[method, path])
            answer = await client.request(method, place, json=body)
            if case and case.is_silent and answer.status_code == 204:
                continue  # it has ended, and so has no stream
            assert answer.headers["content-type"].startswith("text/event-stream"), (path, answer.text)
            assert answer.headers["cache-control"] == "no-cache, no-transform", path
            assert answer.headers["x-accel-buffering"] == "no", path
            events = [event for event in answer.text.split("\n\n") if event and not event.startswith(":")]
            fields = {tuple(sorted({line.partition(":")[0] for line in event.splitlines()})) for event in events}
            assert fields == {tuple(sorted(content["text/event-stream"]["itemSchema"]["required"]))}, path
