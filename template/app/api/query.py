"""Refuses query parameters that a path does not have, so that a misspelt one does not pass for a default."""

from collections.abc import Collection
from typing import Any

from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.params import ParamTypes
from fastapi.requests import HTTPConnection


async def check_query(connection: HTTPConnection) -> None:
    """Raises RequestValidationError for parameters that a path does not have; a socket checks them once it is open."""
    if connection.scope["type"] == "http":
        refuse_unknown_parameters(connection)


def refuse_unknown_parameters(connection: HTTPConnection) -> None:
    """Raises RequestValidationError for query parameters that the route does not have."""
    if not connection.scope["query_string"]:
        return
    known = _parameters(connection.scope["route"])
    message = f"there is no such parameter here; known are: {', '.join(sorted(known)) or 'none'}"
    unknown = [{"type": "extra_forbidden", "loc": ("query", name), "msg": message} for name in connection.query_params]
    if errors := [error for error in unknown if error["loc"][1] not in known]:
        raise RequestValidationError(errors)


def _parameters(route: Any) -> Collection[str]:
    fields = get_flat_params(route.dependant)
    return {field.alias for field in fields if getattr(field.field_info, "in_", ParamTypes.query) is ParamTypes.query}
