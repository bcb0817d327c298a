"""Wraps every request, in plain ASGI: with no task and no copy of the body per request."""

import re
from time import perf_counter

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars, unbind_contextvars
from uuid_utils.compat import uuid7

from app.core.errors import SetupError

REQUEST_ID_HEADER = "X-Request-ID"
MAX_COOKIE_ESCAPES = 100
_COSTLY = "/audio"
_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
_STRICT_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
}

log = structlog.stdlib.get_logger("app.access")


class CookieLimit:
    """Hides cookies that are full of escapes: before 3.13, Python's parser reads the rest again after each of them.

    RFC 6265 allows no backslash in a cookie.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and _cookie_escapes(scope) > MAX_COOKIE_ESCAPES:
            scope = {**scope, "headers": [header for header in scope["headers"] if header[0] != b"cookie"]}
        await self._app(scope, receive, send)


def _cookie_escapes(scope: Scope) -> int:
    return sum(value.count(b"\\") for name, value in scope["headers"] if name == b"cookie")


class RequestContext:
    """Gives the request an id, in its response and its log lines, and logs it when it ends.

    Its log lines also have the client's address, so that security events tell where they came from.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        client = scope["client"][0] if scope.get("client") else None
        with bound_contextvars(request_id=request_id, client=client):
            try:
                if scope["type"] == "http":
                    await self._answer(request_id, scope, receive, send)
                else:
                    await self._app(scope, receive, send)  # a WebSocket logs its own end, since it knows the reason
            finally:
                unbind_contextvars("user_id")  # which is bound once the caller is known

    async def _answer(self, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            milliseconds = round((perf_counter() - started) * 1000, 1)
            log.info("request", method=scope["method"], path=scope["path"], status=status, milliseconds=milliseconds)


class SecurityHeaders:
    """Adds headers against sniffing, framing, referrers and caches in browsers; `strict` adds those that need HTTPS."""

    def __init__(self, app: ASGIApp, strict: bool) -> None:
        self._app = app
        self._headers = _HEADERS | (_STRICT_HEADERS if strict else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class RootPath:
    """Names the prefix that a proxy has stripped from the path, for links to this service."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "root_path": self._root_path} if self._root_path else scope, receive, send)


class HeadRequests:
    """Answers HEAD as GET, without the body: what is streamed ends at once. It does not make what costs money."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"].endswith(_COSTLY):
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})

        await self._app({**scope, "method": "GET"}, receive, send_head)


class PlainStartupErrors:
    """Makes a server that cannot start print one sentence: ASGI servers print the message of `startup.failed`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        held: list[Message] = []

        async def hold_failure(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                held.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold_failure)
        except SetupError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        except BaseException:
            for message in held:
                await send(message)
            raise


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ACCEPTABLE_ID.fullmatch(value):
            return value.decode()
    return str(uuid7())
