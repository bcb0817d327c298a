"""Tests what holds for every WebSocket, with one that only echoes."""

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import Field, TypeAdapter

from app.api import websockets
from app.api.websockets import WebSocketEndpointDep
from app.core.errors import Conflict
from app.schemas.websocket import Auth, Frame, Ping
from tests.conftest import MakeSettings, bearer, client_for, log_in, running, sign_in
from tests.sockets import HOSTILE, Socket, connected, opening, token_of

PATH = "/echo"
ACCEPTED = {"type": "websocket.accept", "subprotocol": None, "headers": []}


class Echo(Frame):
    type: Literal["echo"]
    text: str = ""
    times: int = 1


class Fail(Frame):
    type: Literal["fail"]
    unexpectedly: bool = False


EchoFrame = Annotated[Echo | Fail | Auth | Ping, Field(discriminator="type")]


def with_echo(app: FastAPI) -> FastAPI:
    @app.websocket(PATH)
    async def echo(endpoint: WebSocketEndpointDep) -> None:
        async def enter(socket: websockets.Socket) -> websockets.Handler:
            async def handle(frame: EchoFrame) -> None:
                if isinstance(frame, Fail):
                    raise ZeroDivisionError if frame.unexpectedly else Conflict("It cannot be.")
                assert isinstance(frame, Echo)
                socket.start(frame.text, lambda: repeat(socket, frame), frame.ref)

            return handle

        await endpoint.serve("echo", TypeAdapter(EchoFrame), enter)

    return app


async def repeat(socket: websockets.Socket, frame: Echo) -> None:
    for _ in range(frame.times):
        await socket.send({"type": "echo", "text": frame.text}, frame.ref)


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """Uses SQLite only, since what is tested here does not depend on the database."""
    return f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'app.db')}"


@pytest.fixture
def app(app: FastAPI) -> FastAPI:
    return with_echo(app)


@asynccontextmanager
async def echo_of(app: FastAPI, client: httpx2.AsyncClient) -> AsyncGenerator[Socket]:
    """Yields a socket, after asserting that it answers; asserts the same afterwards."""
    async with connected(app, PATH, client) as socket:
        await socket.send(type="ping")
        assert await socket.frame() == {"type": "pong"}
        yield socket
        await socket.send(type="ping", ref="the last")
        assert (await socket.until("pong"))[-1]["ref"] == "the last"


async def test_a_token_comes_as_a_subprotocol(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    async with connected(app, PATH, alice) as socket:
        await socket.send(type="echo", text="hello", ref="1")
        assert await socket.frame() == {"type": "echo", "text": "hello", "ref": "1"}


async def test_a_token_comes_as_the_first_frame(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    async with opening(app, PATH) as socket:
        await socket.send(type="auth", token=token_of(alice))
        await socket.send(type="ping")
        assert await socket.message() == ACCEPTED
        assert await socket.frame() == {"type": "pong"}


async def test_anything_else_closes(app: FastAPI) -> None:
    bad = ('{"type": "ping"}', '{"type": "auth", "token": "nonsense"}', '{"type": "auth"}', "{", "[" * 10_000, "\ud800")
    for first in bad:
        async with opening(app, PATH) as socket:
            await socket.send_text(first)
            assert await socket.closed() == (4401, "unauthenticated"), first


async def test_silence_closes(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websockets, "AUTH_SECONDS", 0.05)
    async with opening(app, PATH) as socket:
        assert await socket.closed() == (4401, "unauthenticated")


async def test_a_bad_subprotocol_closes(app: FastAPI) -> None:
    for token in ("nonsense", "ak_nonsense"):
        async with opening(app, PATH, subprotocols=("bearer", token)) as socket:
            assert (await socket.message())["subprotocol"] == "bearer"
            assert await socket.closed() == (4401, "unauthenticated")


async def test_a_token_in_the_address_is_not_looked_at(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    async with opening(app, PATH, query=f"token={token_of(alice)}") as socket:
        await socket.send(type="ping")
        assert await socket.closed() == (4401, "unauthenticated")


async def test_web_pages_must_be_allowed(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    offered = ("bearer", token_of(alice))
    others = ("https://evil.example", "http://localhost:3000.evil.example", "capacitor://test", "null", "")
    for origin in ("http://localhost:3000", "https://test", *others):
        async with opening(app, PATH, subprotocols=offered, origin=origin) as socket:
            first = (await socket.message())["type"]
            assert first == ("websocket.close" if origin in others else "websocket.accept"), origin


async def key_for(client: httpx2.AsyncClient, *scopes: str) -> str:
    answer = await client.post("/api/v1/auth/api-keys", json={"name": "A script", "scopes": scopes})
    return answer.json()["key"]


async def test_an_api_key_needs_the_scope(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    app.state.scopes.add("echo")
    async with client_for(app) as script:
        script.headers.update(bearer(await key_for(alice, "echo")))
        async with echo_of(app, script):
            pass
        script.headers.update(bearer(await key_for(alice, "read")))
        async with connected(app, PATH, script) as socket:
            assert await socket.closed() == (4403, "missing_scope")
    app.state.scopes.discard("echo")


async def test_an_address_may_have_to_be_confirmed(make_settings: MakeSettings) -> None:
    async with running(make_settings(verified_email_required=True)) as app, client_for(with_echo(app)) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        async with connected(app, PATH, client) as socket:
            assert await socket.closed() == (4403, "email_not_verified")


async def test_what_is_no_frame_is_an_error_and_nothing_else(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    async with echo_of(app, alice) as socket:
        for text in HOSTILE:
            await socket.send_text(text)
        await socket.send_bytes(b'{"type": "ping"}')
        for text in (*HOSTILE, "bytes"):
            error = await socket.frame()
            assert (error["type"], error["status"], error["code"]) == ("error", 422, "validation_error"), text
            assert len(json.dumps(error)) < 2_000, text


async def test_an_error_says_which_frame_it_is_about(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    async with echo_of(app, alice) as socket:
        await socket.send(type="echo", times="many", ref="a")
        error = await socket.frame()
        assert (error["ref"], error["errors"][0]["field"]) == ("a", "echo.times")
        await socket.send(type="fail", ref="b")
        conflict = {"type": "error", "status": 409, "code": "conflict", "detail": "It cannot be.", "ref": "b"}
        assert await socket.frame() == conflict


async def test_what_nobody_expected_is_logged_and_says_nothing(
    app: FastAPI, alice: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    async with echo_of(app, alice) as socket:
        await socket.send(type="fail", unexpectedly=True)
        error = await socket.frame()
        assert (error["status"], error["code"]) == (500, "internal")
    assert "ZeroDivisionError" in caplog.text


async def test_a_frame_has_a_largest_size(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    limit = app.state.settings.socket_max_frame_bytes
    frame = json.dumps({"type": "echo", "text": "é"}, ensure_ascii=False)
    async with connected(app, PATH, alice) as socket:
        await socket.send_text(frame + " " * (limit - len(frame.encode())))
        assert (await socket.frame())["text"] == "é"
        await socket.send_text(frame + " " * (limit - len(frame.encode()) + 1))
        assert await socket.closed() == (1009, "frame_too_big")


@pytest.fixture
async def session(app: FastAPI, alice: httpx2.AsyncClient) -> AsyncGenerator[Socket]:
    async with connected(app, PATH, alice) as socket:
        await socket.send(type="ping")
        await socket.frame()
        yield socket


async def end_session(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/api/v1/auth/logout")).status_code == 204


async def test_rights_are_asked_again_for_each_frame(session: Socket, alice: httpx2.AsyncClient) -> None:
    await end_session(alice)
    await session.send(type="ping")
    assert await session.closed() == (4401, "unauthenticated")


async def test_rights_are_asked_again_every_now_and_then(
    app: FastAPI, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websockets, "CHECK_SECONDS", 0.05)
    async with connected(app, PATH, alice) as socket:
        await socket.send(type="ping")
        await socket.frame()
        await end_session(alice)
        assert await socket.closed() == (4401, "unauthenticated")


async def test_a_newer_token_takes_the_place_of_the_old_one(
    session: Socket, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    for token, code in (("nonsense", "unauthenticated"), (token_of(bob), "forbidden")):
        await session.send(type="auth", token=token, ref="newer")
        error = await session.frame()
        assert (error["code"], error["ref"]) == (code, "newer")
    newer = await log_in(alice, "alice@example.com")
    await session.send(type="auth", token=newer["access_token"])
    await end_session(alice)
    await session.send(type="ping")
    assert await session.frame() == {"type": "pong"}


async def test_frames_count_as_requests(make_settings: MakeSettings) -> None:
    async with running(make_settings(requests_per_minute=3)) as app, client_for(with_echo(app)) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        async with connected(app, PATH, client) as socket:  # counts as the first request
            for text in ('{"type": "ping"}', "nonsense", '{"type": "ping", "ref": "c"}'):
                await socket.send_text(text)
            assert [(await socket.frame()).get("code") for _ in range(2)] == [None, "validation_error"]
            error = await socket.frame()
            assert (error["status"], error["code"], error["ref"]) == (429, "too_many_requests", "c")
            assert 1 <= error["retry_after"] <= 60


async def test_a_user_opens_so_many(make_settings: MakeSettings) -> None:
    async with running(make_settings(sockets_per_user=2)) as app, client_for(with_echo(app)) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        async with echo_of(app, client):
            async with echo_of(app, client), connected(app, PATH, client) as third:
                assert await third.closed() == (4429, "too_many_at_once")
            async with echo_of(app, client):
                pass


async def test_a_socket_follows_so_many_things(session: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websockets, "MOST_TASKS", 0)
    await session.send(type="echo", ref="a")
    error = await session.frame()
    assert (error["status"], error["code"], error["ref"]) == (429, "too_many_at_once", "a")


async def test_a_reader_that_takes_nothing_is_let_go(
    app: FastAPI, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(websockets, "CLOSE_SECONDS", 0.05)
    app.state.settings = app.state.settings.model_copy(update={"socket_send_timeout": 0.05})
    async with connected(app, PATH, alice, room=1) as socket, asyncio.timeout(10):
        for text in ("one", "other"):
            await socket.send(type="echo", text=text, times=1_000_000)
        await socket.send(type="ping")
        while "slow_reader" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert socket.sent.qsize() == 1
