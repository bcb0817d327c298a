"""Serves WebSockets: decides who may open one, which frames it takes, and when it closes.

A route takes a `WebSocketEndpointDep` and calls `serve` with the type of its frames and with what returns a handler.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Annotated, Any

import structlog
from fastapi import Depends, WebSocket, WebSocketDisconnect
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.websockets import WebSocketState

from app.api.deps import Auth, RateLimitsDep, SettingsDep, verified
from app.api.json_limit import TooManyValues
from app.api.query import refuse_unknown_parameters
from app.api.scopes import within_scopes
from app.api.websocket_frames import (
    Close,
    Closed,
    check_json,
    close_frame,
    encode_text,
    error_frame,
    parse_frame,
    read_ref,
)
from app.core.concurrency import ConcurrencyLimit, TooManyAtOnce
from app.core.errors import AppError, Forbidden
from app.core.periodic import repeat
from app.core.telemetry import meters
from app.core.telemetry.spans import note_user
from app.repositories.principal import Principal
from app.schemas import websocket as frames

SUBPROTOCOL = "bearer"
AUTH_SECONDS = 5.0
CHECK_SECONDS = 30.0
CLOSE_SECONDS = 1.0
MOST_TASKS = 100
"""Limits the tasks of one socket, each of which has at most one frame waiting to be sent."""

Handler = Callable[[Any], Awaitable[None]]
"""Handles a client's frame before the next one is read; work that takes long becomes a task of the socket."""

OnConnect = Callable[["Socket"], Awaitable[Handler]]
"""Returns the handler of a socket whose caller has been identified; an error that it raises closes the socket."""

log = structlog.stdlib.get_logger("app.sockets")
access = structlog.stdlib.get_logger("app.access")


class Socket:
    """Sends the frames of an open WebSocket one at a time, each when the client has room for it, and runs its tasks."""

    def __init__(self, websocket: WebSocket, user: Principal, patience: float) -> None:
        self.user = user
        self.ended: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
        self._websocket = websocket
        self._patience = patience
        self._turn = asyncio.Lock()
        self._tasks: dict[object, asyncio.Task[None]] = {}

    async def send(self, frame: Mapping[str, Any], ref: str | None = None) -> None:
        """Sends a frame. Waits for a slow client, and ends the socket when that takes nothing for too long."""
        text = to_json(frame if ref is None else {**frame, "ref": ref}).decode()
        async with self._turn:
            if self.ended.done():
                return
            too_slow = self.ended.get_loop().call_later(self._patience, self.end, Close(1008, "slow_reader"))
            try:
                await self._websocket.send_text(text)
            except (WebSocketDisconnect, RuntimeError):  # it was closed by the client or the server
                self.end(Close(1006))
            finally:
                too_slow.cancel()

    def end(self, close: Close) -> None:
        if not self.ended.done():
            self.ended.set_result(close)

    def check_room(self, key: object = None) -> None:
        """Raises TooManyAtOnce when no more tasks may be started, unless a new one replaces one with this key."""
        if key not in self._tasks and len(self._tasks) >= MOST_TASKS:
            raise TooManyAtOnce(f"This socket already follows {MOST_TASKS} streams, the maximum; open another socket.")

    def has(self, key: object) -> bool:
        return key in self._tasks

    def start(self, key: object, work: Callable[[], Awaitable[None]], ref: str | None = None) -> None:
        """Starts a task that runs beside later frames and replaces one with the same key. Raises TooManyAtOnce."""
        self.check_room(key)
        if self.ended.done():
            return
        if previous := self._tasks.pop(key, None):
            previous.cancel()
        task = self._tasks[key] = asyncio.create_task(self.attempt(work, ref))
        task.add_done_callback(partial(self._forget, key))

    async def attempt(self, work: Callable[[], Awaitable[None]], ref: str | None) -> None:
        """Runs some work, and sends the client any error of it as a frame."""
        try:
            await work()
        except Exception as error:  # whatever it is, only this frame fails; unexpected errors are logged
            await self.send(error_frame(error), ref)

    async def leave(self) -> None:
        """Cancels the socket's tasks. The replies and executions that they follow go on."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _forget(self, key: object, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]


class SocketIdentity:
    """Identifies the caller of a socket, again and again, since rights may end while it is open."""

    def __init__(self, endpoint: "WebSocketEndpoint", tag: str, token: str) -> None:
        self._endpoint = endpoint
        self._tag = tag
        self._token = token

    async def identify(self) -> Principal:
        """Returns the caller. Raises Unauthenticated, MissingScope, EmailNotVerified."""
        return await self._identify(self._token)

    async def renew(self, token: str, user: Principal) -> None:
        """Accepts a newer token of the same user. Raises like `identify`, and Forbidden for other users or scopes."""
        newer = await self._identify(token)
        if newer.id != user.id:
            raise Forbidden("This token belongs to another user; open another socket with it.")
        if (newer.scopes and sorted(newer.scopes)) != (user.scopes and sorted(user.scopes)):
            raise Forbidden("This token has other scopes; open another socket with it.")
        self._token = token

    async def _identify(self, token: str) -> Principal:
        user = within_scopes(await self._endpoint.auth.identify(token), {self._tag})
        return verified(user, self._endpoint.settings)


class Listener:
    """Reads the frames of a socket, and checks that its caller may still use it."""

    def __init__(self, endpoint: "WebSocketEndpoint", caller: SocketIdentity, socket: Socket) -> None:
        self._endpoint = endpoint
        self._caller = caller
        self._socket = socket
        self._handling: asyncio.Task[None] | None = None

    async def run(self, known: TypeAdapter[Any], handler: Handler) -> Close:
        """Handles frames until the socket ends, and returns how to close it."""
        reading = asyncio.create_task(self._read(known, handler))
        async with repeat("socket check", self._check, CHECK_SECONDS):
            try:
                return await self._socket.ended
            finally:
                await self._end(reading)

    async def _read(self, known: TypeAdapter[Any], handler: Handler) -> None:
        try:
            while True:
                text = await self._endpoint.receive()
                work = partial(self._handle, known, handler, text)
                self._handling = asyncio.create_task(self._socket.attempt(work, read_ref(text)))
                await asyncio.shield(self._handling)
        except Exception as error:  # nobody awaits this task: an error that got out would leave the socket open
            self._socket.end(close_frame(error))

    async def _end(self, reading: asyncio.Task[None]) -> None:
        """Stops reading, but lets the current frame be handled fully: a stored message must get its reply."""
        reading.cancel()
        await self._socket.leave()
        waiting = {reading} if self._handling is None else {reading, self._handling}
        await asyncio.wait(waiting, timeout=CLOSE_SECONDS)

    async def _handle(self, known: TypeAdapter[Any], handler: Handler, text: str | None) -> None:
        await self._endpoint.rate_limits.request(self._socket.user.id)
        frame = parse_frame(known, text)
        if isinstance(frame, frames.Auth):
            await self._caller.renew(frame.token, self._socket.user)
        elif not await self._may_go_on():
            return
        elif isinstance(frame, frames.Ping):
            await self._socket.send({"type": "pong"}, frame.ref)
        else:
            await handler(frame)

    async def _check(self) -> None:
        await self._may_go_on()

    async def _may_go_on(self) -> bool:
        try:
            await self._caller.identify()
        except AppError as error:
            self._socket.end(close_frame(error))
        return not self._socket.ended.done()


class WebSocketEndpoint:
    """Serves a WebSocket, from the handshake to its close."""

    def __init__(self, websocket: WebSocket, auth: Auth, rate_limits: RateLimitsDep, settings: SettingsDep) -> None:
        self.auth = auth
        self.rate_limits = rate_limits
        self.settings = settings
        self._websocket = websocket
        self._slots: ConcurrencyLimit = websocket.app.state.sockets

    async def serve(self, tag: str, known: TypeAdapter[Any], on_connect: OnConnect) -> None:
        """Serves the socket until it closes. An API key needs the tag among its scopes."""
        began = perf_counter()
        with meters.open_one(meters.sockets):
            close = await self._serve(tag, known, on_connect)
        await self._close(close)
        path, seconds = self._websocket.url.path, round(perf_counter() - began, 1)
        access.info("socket", path=path, code=close.code, reason=close.reason, seconds=seconds)

    async def receive(self) -> str | None:
        """Returns the text of the next frame; None when it is binary. Raises Closed, WebSocketDisconnect."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005), message.get("reason"))
        text: str | None = message.get("text")
        if len(encode_text(text) if text is not None else message["bytes"]) > self.settings.socket_max_frame_bytes:
            raise Closed(1009, "frame_too_big")
        return text

    async def _serve(self, tag: str, known: TypeAdapter[Any], on_connect: OnConnect) -> Close:
        try:
            caller = SocketIdentity(self, tag, await self._token())
            user = await caller.identify()
            refuse_unknown_parameters(self._websocket)
            note_user(user.id)
            await self.rate_limits.request(user.id)
            async with self._slots.acquire(str(user.id)):
                socket = Socket(self._websocket, user, self.settings.socket_send_timeout)
                return await Listener(self, caller, socket).run(known, await on_connect(socket))
        except Exception as error:  # what HTTP would answer with a status closes the socket with a code
            return close_frame(error)

    async def _token(self) -> str:
        """Returns the token, after accepting the socket: a browser does not tell a page why one was refused."""
        if not self._is_from_an_allowed_page():
            raise Closed(4403, "origin_not_allowed")
        offered: list[str] = self._websocket.scope.get("subprotocols", [])
        await self._websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        if offered[:1] == [SUBPROTOCOL] and len(offered) > 1:
            return offered[1]
        return await self._first_frame()

    async def _first_frame(self) -> str:
        try:
            async with asyncio.timeout(AUTH_SECONDS):
                return frames.Auth.model_validate_json(check_json(await self.receive())).token
        except (TimeoutError, TooManyValues, ValidationError):
            raise Closed(4401, "unauthenticated") from None

    def _is_from_an_allowed_page(self) -> bool:
        """Checks the `Origin` that browsers send, since neither same-origin policy nor CORS holds for WebSockets."""
        headers = self._websocket.headers
        origin = headers.get("origin")
        host = headers.get("host")
        is_own = origin in (f"https://{host}", f"http://{host}")
        return origin is None or is_own or origin in self.settings.origins

    async def _close(self, close: Close) -> None:
        """Closes the socket, but does not wait long for a client that takes nothing."""
        states = self._websocket.client_state, self._websocket.application_state
        if WebSocketState.DISCONNECTED in states:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._websocket.close(close.code, close.reason)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            log.debug("socket gone before it was closed")


WebSocketEndpointDep = Annotated[WebSocketEndpoint, Depends(WebSocketEndpoint)]
