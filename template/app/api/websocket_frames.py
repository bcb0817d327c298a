"""Parses the frames of clients, and turns errors into frames and into the codes that close a WebSocket."""

from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.api.errors import UNEXPECTED, Failure, failure
from app.api.json_limit import TooManyValues, ValueCounter
from app.schemas.websocket import Ref

log = structlog.stdlib.get_logger("app.sockets")


@dataclass(frozen=True, slots=True)
class Close:
    code: int
    reason: str = ""


class Closed(Exception):
    """Closes the socket with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.close = Close(code, reason)


class _Named(BaseModel):
    ref: Ref | None = None


def read_ref(text: str | None) -> str | None:
    """Returns the `ref` of a frame, even if the frame is not valid otherwise; None if it has none."""
    try:
        return _Named.model_validate_json(check_json(text)).ref
    except (TooManyValues, ValidationError):
        return None


def parse_frame(known: TypeAdapter[Any], text: str | None) -> Any:
    """Validates a frame. Raises TooManyValues, RequestValidationError."""
    try:
        return known.validate_json(check_json(text))
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        raise RequestValidationError(errors) from None


def check_json(text: str | None) -> bytes:
    """Returns a frame as bytes. Raises TooManyValues."""
    frame = encode_text(text or "")
    ValueCounter().add(frame)
    return frame


def encode_text(text: str) -> bytes:
    """Encodes a text; half of a surrogate pair is kept, and the parser refuses it."""
    return text.encode(errors="surrogatepass")


def _failure(error: Exception) -> Failure:
    try:
        return failure(error)
    except Exception:  # an unexpected error is logged, and only this socket is closed
        log.exception("unexpected error")
        return UNEXPECTED


def error_frame(error: Exception) -> dict[str, Any]:
    """Returns the error as a frame for the client."""
    failed = _failure(error)
    frame: dict[str, Any] = {
        "type": "error",
        "status": failed.status,
        "code": failed.code,
        "detail": failed.detail,
    }
    if failed.errors:
        frame["errors"] = failed.errors
    if "Retry-After" in failed.headers:
        frame["retry_after"] = int(failed.headers["Retry-After"])
    return frame


def close_frame(error: Exception) -> Close:
    """Returns how an error closes the socket: by 4000 plus the status that HTTP would have, or 1011 if unexpected."""
    match error:
        case Closed():
            return error.close
        case WebSocketDisconnect():
            return Close(error.code, error.reason)
        case _:
            failed = _failure(error)
            return Close(1011 if failed is UNEXPECTED else 4000 + failed.status, failed.code)
