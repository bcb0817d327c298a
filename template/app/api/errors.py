"""Turns every error into an `application/problem+json` document (RFC 9457); no other module does.

Below the paths of a protocol that tells errors in its own form, that form is used.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.database_errors import is_unavailable
from app.core.errors import AppError

MAX_ERRORS = 20
_FIELD_CHARACTERS, _MESSAGE_CHARACTERS = 100, 200
_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    422: "validation_error",
}

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
    """Lists what validation refused, one entry for each error, at most 20."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Holds what a client is told of an error, in a problem document or a WebSocket frame."""

    status: int
    code: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    errors: Sequence[FieldError] = ()


ErrorFormat = Callable[[Request, Failure], Response]
"""Tells a client of a failure in the form that it expects."""

UNEXPECTED = Failure(500, "internal", "Something went wrong on our side.")


def failure(error: Exception) -> Failure:
    """Translates an expected error, and raises any other again."""
    match error:
        case AppError():
            errors = [FieldError(field=error.field, message=str(error))] if error.field else []
            return Failure(error.status, error.code, str(error), error.headers, errors)
        case RequestValidationError():
            return _invalid(error.errors())
        case HTTPException():
            detail = _detail(error.status_code, error.detail)
            return Failure(error.status_code, _code(error.status_code), detail, error.headers or {})
        case SQLAlchemyError() if is_unavailable(error):
            return _database_unavailable(error)
        case _:
            raise error


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns `responses=` for a router that answers these statuses with a problem document."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def add_error_handlers(app: FastAPI) -> None:
    for kind in (AppError, RequestValidationError, HTTPException, DBAPIError, PoolTimeoutError):
        app.exception_handler(kind)(_answer)


class ProblemMiddleware:
    """Turns what no handler sees into problem documents: unexpected errors, and the framework's plain-text answers.

    It is the innermost middleware, so that these answers get the headers of the others, too.
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
                raise  # part of the response is sent: the server logs the error and closes the connection
            log.exception("unexpected error")
            await answer.replace(UNEXPECTED)


class _Answer:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.started = self._replaced = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            if message["status"] >= 400 and _is_plain_text(message):
                self._replaced = True
                status: int = message["status"]
                await self.replace(Failure(status, _code(status), _detail(status)))
        if not self._replaced:
            await self._send(message)

    async def replace(self, failure: Failure) -> None:
        response = _to_response(Request(self._scope), failure)
        await response(self._scope, self._receive, self._send)


async def _answer(request: Request, error: Exception) -> Response:
    return _to_response(request, failure(error))


def _to_response(request: Request, failure: Failure) -> Response:
    """Uses the format of the longest path that the request's path begins with."""
    formats: Mapping[str, ErrorFormat] = request.app.state.error_formats
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    above = [prefix for prefix in formats if f"{path}/".startswith(f"{prefix}/")]
    return formats[max(above, key=len)](request, failure) if above else tell_problem(request, failure)


def _invalid(errors: Sequence[Any]) -> Failure:
    """Lists the first errors, each truncated: a client chooses how long names and quoted values are."""
    named = [FieldError(field=_field(item), message=_message(item)) for item in errors[:MAX_ERRORS]]
    more = f" The first {MAX_ERRORS} of {len(errors)} errors are named." if len(errors) > MAX_ERRORS else ""
    return Failure(422, "validation_error", f"The request is not valid.{more}", errors=named)


def _field(item: Any) -> str:
    loc: Iterable[Any] = item["loc"][:1] if item["type"] == "json_invalid" else item["loc"]  # else with a position
    return ".".join(str(part)[:_FIELD_CHARACTERS] for part in loc)[:_FIELD_CHARACTERS]


def _message(item: Any) -> str:
    if item["type"] == "json_invalid" and item["loc"]:
        return f"the body is not valid JSON (character {item['loc'][-1]})"
    if item["type"] == "model_attributes_type" and item["loc"] == ("body",):
        is_sent_as_json = not isinstance(item.get("input"), bytes)
        return "the body must be a JSON object" if is_sent_as_json else "send JSON with Content-Type: application/json"
    message: str = item["msg"][:_MESSAGE_CHARACTERS].removeprefix("Value error, ")
    if isinstance(item.get("input"), str):  # Pydantic counts "items" in a string, too, when it checks the length last
        message = re.sub(r" item(s?) after validation", r" character\1", message)
    return message


def _database_unavailable(error: SQLAlchemyError) -> Failure:
    cause = error.orig if isinstance(error, DBAPIError) else error
    log.error("database unavailable", error=type(cause).__name__, reason=str(cause).split("\n")[0])
    detail = "The database cannot be used at the moment; try again."
    return Failure(503, "database_unavailable", detail, {"Retry-After": "1"})


def _code(status: int) -> str:
    return _CODES.get(status, f"http_{status}")


def _detail(status: int, phrase: str = "") -> str:
    if status == 413:  # the framework has two sentences for it
        return "The request body is too large."
    return (phrase or HTTPStatus(status).phrase).rstrip(".") + "."


def _is_plain_text(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/plain")


def tell_problem(request: Request, failure: Failure) -> JSONResponse:
    problem = Problem(
        title=HTTPStatus(failure.status).phrase,
        status=failure.status,
        detail=failure.detail,
        code=failure.code,
        request_id=request.state.request_id,
        errors=list(failure.errors) or None,
    )
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, failure.status, failure.headers, media_type="application/problem+json")
