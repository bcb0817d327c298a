"""Refuses JSON with more values than any request needs before it is parsed, since each may become an error."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_VALUES = 5_000
_QUOTES = 4
"""Allows four quotes for each value, which may be a string and have a name."""


class TooManyValues(HTTPException):
    """Extends HTTPException because FastAPI lets no other exception through while it reads a body."""

    def __init__(self, limit: int) -> None:
        super().__init__(422, f"The JSON has more than {limit} values")


class ValueCounter:
    """Counts the members and elements of JSON that comes in parts, without parsing it."""

    def __init__(self, limit: int = MAX_VALUES) -> None:
        self._limit = limit
        self._count = 0
        self._in_string = False
        self._escape = b""

    def add(self, part: bytes) -> None:
        """Counts one part; wrongly after a syntax error, but then nothing is parsed either. Raises TooManyValues."""
        part = self._escape + part
        whole = len(part) - (len(part) - len(part.rstrip(b"\\"))) % 2
        part, self._escape = part[:whole], part[whole:]
        pieces = part.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"', self._limit * _QUOTES + 1)
        structure = b"".join(pieces[self._in_string :: 2])
        self._count += sum(map(structure.count, (b",", b"[", b"{")))
        if self._count > self._limit or len(pieces) - 1 > self._limit * _QUOTES:
            raise TooManyValues(self._limit)
        self._in_string ^= len(pieces) % 2 == 0


class JsonLimit:
    """Counts the values of a JSON body while it arrives, and refuses one that has too many."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_json(scope):
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        counter = ValueCounter(scope["app"].state.value_limits.get(path, MAX_VALUES))

        async def receive_counted() -> Message:
            message = await receive()
            body: bytes = message.get("body", b"")
            if b"\0" in body:  # UTF-16 or UTF-32, which the parser would accept and the counter misread
                raise HTTPException(400, "JSON must be in UTF-8")
            counter.add(body)
            return message

        await self._app(scope, receive_counted, send)


def _is_json(scope: Scope) -> bool:
    return any(name == b"content-type" and b"json" in value.lower() for name, value in scope["headers"])
