"""Tests what a server sends to OpenTelemetry, Sentry and its log: enough, and nothing private."""

import shutil
import sqlite3
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import httpx2
import pytest
from structlog.contextvars import get_contextvars

from app.core.config import Settings, read_settings
from app.core.errors import SetupError
from app.core.telemetry.lifecycle import CLOSE_SECONDS
from app.core.telemetry.settings import TelemetrySettings
from app.core.telemetry.setup import open_telemetry
from tests.collector import Collector, collecting, lines
from tests.conftest import ROOT, SECRET_KEY, bound, environment
from tests.integration.conftest import StartServer
from tests.server import started

PASSWORD, BROWSER, ASKED = "a-password-4711", "a-browser-4712", "asked-for-4713"
REQUEST_ID = "request-4714"
API = "/api/v1"


@dataclass
class Told:
    """Holds what a server that has ended sent as telemetry and printed."""

    collector: Collector
    output: str
    user_id: str
    secrets: list[str]

    @property
    def log(self) -> list[dict[str, Any]]:
        return lines(self.output)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def told(
    anyio_backend: str, migrated_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Told]:
    assert anyio_backend
    path = shutil.copy(migrated_file, tmp_path_factory.mktemp("told") / "app.db")
    command = [sys.executable, "-m", "app.cli", "serve"]
    with collecting() as collector:
        env = environment(DATABASE_URL=f"sqlite:///{path}", OTEL_SERVICE_NAME="told", **collector.settings)
        async with started(command, ROOT, env) as server, httpx2.AsyncClient(base_url=server.url) as client:
            await server.says("Uvicorn running")
            user_id, secrets = await visit(client)
            await break_and_visit(client, str(path))
            assert await server.stop() == 0
            yield Told(collector, server.output, user_id, [SECRET_KEY, PASSWORD, BROWSER, ASKED, *secrets])


async def visit(client: httpx2.AsyncClient) -> tuple[str, list[str]]:
    """Sends requests, and returns the id of their user and the secrets in them."""
    user = await client.post(f"{API}/auth/register", json={"email": "ada@example.com", "password": PASSWORD})
    tokens = (await log_in(client)).json()
    client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
    await client.get(f"{API}/users/me", headers={"X-Request-ID": REQUEST_ID})
    assert (await client.get(f"{API}/info", params={"q": ASKED})).status_code == 422
    key = (await client.post(f"{API}/auth/api-keys", json={"name": "mine", "scopes": ["read"]})).json()["key"]
    await client.get(f"{API}/users/me", headers={"Authorization": f"Bearer {key}"})
    for path in ("/health", "/health/ready"):
        assert (await client.get(path)).status_code == 200
    return user.json()["id"], [tokens["access_token"], tokens["refresh_token"], key]


async def break_and_visit(client: httpx2.AsyncClient, path: str) -> None:
    """Causes an unexpected error: a unique index makes the second log-in of a user fail."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE UNIQUE INDEX broken ON sessions (user_id)")
    connection.close()
    assert (await log_in(client)).status_code == 500


async def log_in(client: httpx2.AsyncClient) -> httpx2.Response:
    data = {"username": "ada@example.com", "password": PASSWORD}
    return await client.post(f"{API}/auth/login", data=data, headers={"User-Agent": BROWSER})


async def test_a_request_is_a_trace_with_its_statements_and_its_log_line(told: Told) -> None:
    request, _with_a_key = told.collector.named("GET /api/v1/users/me")
    statements = told.collector.below(request)
    assert [span.name for span in statements] == ["SELECT"]
    assert statements[0].attributes["db.system.name"] == "sqlite"
    assert "FROM users" in statements[0].attributes["db.query.text"]
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["app.user.id"] == told.user_id
    [line] = [line for line in told.log if line.get("request_id") == REQUEST_ID]
    assert (line["trace_id"], line["user_id"], line["path"]) == (request.trace_id, told.user_id, f"{API}/users/me")


async def test_who_asks_is_forgotten_when_a_request_ends(alice: httpx2.AsyncClient) -> None:
    assert (await alice.get(f"{API}/users/me")).status_code == 200
    assert "user_id" not in get_contextvars()


async def test_what_a_process_does_by_itself_is_no_trace(told: Told) -> None:
    assert {span.name.split(" /")[0] for span in told.collector.spans if not span.parent_id} == {"GET", "POST", "job"}
    assert not [span for span in told.collector.spans if "health" in span.name or "processes" in span.text]


async def test_who_tells_it_is_told(told: Told) -> None:
    told_of = told.collector.resources[0]
    assert (told_of["service.name"], told_of["deployment.environment.name"]) == ("told", "local")


async def test_how_long_requests_take_is_a_metric(told: Told) -> None:
    took = told.collector.points["http.server.request.duration"]
    assert 2 in {point.value for point in took if point.attributes.get("http.route") == f"{API}/users/me"}
    assert not [point for point in took if "health" in str(point.attributes)]


async def test_an_error_is_told_with_where_it_was_and_for_whom(told: Told) -> None:
    [event] = told.collector.events
    [failed] = [span for span in told.collector.named("POST /api/v1/auth/login") if span.failed]
    assert (event["message"], event["logger"], event["level"]) == ("unexpected error", "app.errors", "error")
    assert event["tags"]["trace_id"] == failed.trace_id
    assert [found["type"] for found in event["exception"]["values"]][-1] == "IntegrityError"
    assert any(
        frame["filename"] == "app/services/accounts/auth.py"
        for frame in event["exception"]["values"][-1]["stacktrace"]["frames"]
    )
    assert {span.attributes.get("error.type") for span in told.collector.below(failed)} == {None, "IntegrityError"}


async def test_no_secret_is_told_to_anybody(told: Told) -> None:
    assert "unexpected error" in told.output
    for secret in told.secrets:
        assert not told.collector.knows(secret), secret
        assert secret not in told.output
    assert not told.collector.knows("UNIQUE constraint")  # from the text of an error, which may quote anything


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_receiver_that_does_not_answer_holds_up_nothing(start_server: StartServer) -> None:
    with bound() as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        async with start_server(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_METRIC_EXPORT_INTERVAL="100") as server:
            async with httpx2.AsyncClient(base_url=server.url, timeout=5) as client:
                for _ in range(20):
                    assert (await client.get(f"{API}/info")).status_code == 200
            began = monotonic()
            assert await server.stop() == 0
            assert monotonic() - began < CLOSE_SECONDS + 3
            assert "Traceback" not in server.output


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_is_not_installed_is_asked_for(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    for name, package, value in (
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "opentelemetry.exporter.otlp", "http://127.0.0.1:1"),
        ("SENTRY_DSN", "sentry_sdk", "http://key@127.0.0.1:1/1"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            patch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
            for module in list(sys.modules):
                if module.startswith(f"{package}."):
                    patch.delitem(sys.modules, module)
            with pytest.raises(
                SetupError, match=f"^{name} needs packages that are not installed: run `uv sync --extra telemetry`"
            ):
                async with open_telemetry(settings):
                    pytest.fail("telemetry started without its package")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "name a receiver of OTLP over HTTP"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://host:none", "name a receiver of OTLP over HTTP"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:hunter2@host", "leave user and password out of it"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "input should be 'http/protobuf'"),
        ("SENTRY_DSN", "https://host/1", "copy it from the project's settings in Sentry"),
        ("SENTRY_DSN", "https://hunter2@host/", "copy it from the project's settings in Sentry"),
    ],
)
def test_a_wrong_setting_is_a_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SetupError, match=f"^{name}: {sentence}") as error:
        read_settings(TelemetrySettings)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("name", ["OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"])
def test_each_part_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setenv(name, "true" if name == "OTEL_SDK_DISABLED" else "none")
    wanted = read_settings(TelemetrySettings)
    assert (wanted.sends_traces, wanted.sends_metrics, wanted.sends) == {
        "OTEL_SDK_DISABLED": (False, False, False),
        "OTEL_TRACES_EXPORTER": (False, True, True),
        "OTEL_METRICS_EXPORTER": (True, False, True),
    }[name]
