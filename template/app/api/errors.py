"""Every error becomes an `application/problem+json` document (RFC 9457) here, and only here."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import AppError

_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}

log = structlog.stdlib.get_logger("app.errors")


class FieldError(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldError] | None = None
    """One for each field that validation refused."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` for a router: these statuses are answered with a problem document."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def add_error_handlers(app: FastAPI) -> None:
    app.exception_handler(AppError)(_app_error)
    app.exception_handler(RequestValidationError)(_validation_error)
    app.exception_handler(HTTPException)(_http_exception)
    app.exception_handler(DBAPIError)(_database_error)
    app.exception_handler(PoolTimeoutError)(_database_unavailable)


class Problems:
    """Turns what no handler sees into problem documents: unexpected errors, and the framework's plain-text answers.

    It is the innermost middleware, so that the headers of the others are on these answers too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, receive, send)
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            if answer.started:
                raise  # half an answer is out: only a closed connection can tell the client, and the server logs it
            log.exception("unexpected error")
            await answer.replace(500, "internal", "Something went wrong on our side.")


class _Answer:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.started = self._replaced = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            if message["status"] >= 400 and _is_plain_text(message):
                self._replaced = True
                await self.replace(message["status"], _code(message["status"]), _detail(message["status"]))
        if not self._replaced:
            await self._send(message)

    async def replace(self, status: int, code: str, detail: str) -> None:
        response = _problem(Request(self._scope), status, code, detail)
        await response(self._scope, self._receive, self._send)


async def _app_error(request: Request, error: AppError) -> JSONResponse:
    return _problem(request, error.status, error.code, str(error), headers=error.headers)


async def _validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    errors = [
        FieldError(field=".".join(str(part) for part in item["loc"]), message=item["msg"].removeprefix("Value error, "))
        for item in error.errors()
    ]
    return _problem(request, 422, "validation_error", "The request is not valid.", errors=errors)


async def _database_error(request: Request, error: DBAPIError) -> JSONResponse:
    if not (error.connection_invalidated or isinstance(error, InterfaceError | OperationalError)):
        raise error  # a statement that is wrong, which nobody expected
    return await _database_unavailable(request, error)


async def _database_unavailable(request: Request, error: SQLAlchemyError) -> JSONResponse:
    """The connection broke, none was free, or another process holds the lock: worth another try."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    log.error("database unavailable", error=type(cause).__name__)
    detail = "The database cannot be reached at the moment; try again."
    return _problem(request, 503, "database_unavailable", detail, headers={"Retry-After": "1"})


async def _http_exception(request: Request, error: HTTPException) -> JSONResponse:
    code = _code(error.status_code)
    return _problem(request, error.status_code, code, _detail(error.status_code, error.detail), headers=error.headers)


def _code(status: int) -> str:
    return _CODES.get(status, f"http_{status}")


def _detail(status: int, phrase: str = "") -> str:
    if status == 413:  # which the framework words in two ways
        return "The request body is too large."
    return (phrase or HTTPStatus(status).phrase).rstrip(".") + "."


def _is_plain_text(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/plain")


def _problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[FieldError] | None = None,
) -> JSONResponse:
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        request_id=request.state.request_id,
        errors=list(errors) if errors else None,
    )
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, status, headers, media_type="application/problem+json")
