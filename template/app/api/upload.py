"""Reads one uploaded file and the form fields beside it, only after the caller is known."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from app.api.deps import CurrentUser
from app.core.errors import AppError

CEILING = 2_147_483_648
"""Sets `max_body_size=` of a route, which the framework needs before the settings, which allow less, are read."""
OTHER_FIELDS = 65_536
"""Limits the bytes of everything beside the file."""

B = TypeVar("B", bound=BaseModel)


class BadUpload(AppError):
    status, code = 400, "bad_request"


class BodyTooLarge(AppError):
    status, code = 413, "body_too_large"


@dataclass(frozen=True, slots=True)
class Upload(Generic[B]):
    file: BinaryIO
    data: B


def upload_of(kind: type[B]) -> Callable[..., AsyncGenerator[Upload[B]]]:
    """Returns a dependency that reads the field `file`, closed after the response, and the others as this model."""

    async def upload(request: Request, _: CurrentUser) -> AsyncGenerator[Upload[B]]:
        limit: int = request.app.state.upload_max_bytes
        form = await _parsed(request, limit)
        try:
            yield _upload(kind, form, limit)
        finally:
            await form.close()

    return upload


def upload_body(kind: type[BaseModel]) -> dict[str, Any]:
    """Returns `openapi_extra=` for a route that takes an upload."""
    schema = kind.model_json_schema()
    schema["properties"] = {"file": {"type": "string", "format": "binary"}, **schema["properties"]}
    schema["required"] = ["file", *schema.get("required", [])]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


async def _parsed(request: Request, limit: int) -> FormData:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadUpload("Send the file as multipart/form-data.")
    body = _within(limit and limit + OTHER_FIELDS, request.stream())
    try:
        return await MultiPartParser(request.headers, body, max_files=1, max_fields=16, max_part_size=1024).parse()
    except MultiPartException as error:
        raise BadUpload(f"{error.message.rstrip('.')}.") from None
    except ClientDisconnect:  # the client has left and does not read this answer
        raise BadUpload("The upload was interrupted.") from None


async def _within(limit: int, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    size = 0
    async for chunk in body:
        size += len(chunk)
        if limit and size > limit:
            raise BodyTooLarge("The request body is too large.")
        yield chunk


def _upload(kind: type[B], form: FormData, limit: int) -> Upload[B]:
    fields = dict(form)
    file = fields.pop("file", None)
    if not isinstance(file, UploadFile):
        raise BadUpload("The field `file` is required and must be a file.")
    if limit and (file.size or 0) > limit:
        raise BodyTooLarge(f"The file is larger than {limit} bytes.")
    try:
        return Upload(file.file, kind.model_validate(fields))
    except ValidationError as error:
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from None
