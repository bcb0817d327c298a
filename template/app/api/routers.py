"""Finds the `router` of every module of a folder. Add a file to add endpoints; delete it to remove them."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from fastapi import APIRouter, Depends, FastAPI

from app.api.errors import ErrorFormat, problem_responses
from app.api.query import check_query


def find_modules(folder: str) -> Sequence[ModuleType]:
    """Returns the modules of a folder beside this file, in the order of their names; none without the folder."""
    package = f"{__package__}.{folder}"
    return [import_module(f"{package}.{found.name}") for found in iter_modules([str(Path(__file__).parent / folder)])]


def find_error_formats(modules: Iterable[ModuleType]) -> Mapping[str, ErrorFormat]:
    """Returns how errors are told below a path, by path, for those that want no problem document."""
    found: dict[str, ErrorFormat] = {}
    for module in modules:
        found |= getattr(module, "error_formats", {})
    return found


def find_value_limits(modules: Iterable[ModuleType], prefix: str) -> Mapping[str, int]:
    """Returns how many values the JSON of a request may have, by path, where that is not the usual limit."""
    found: dict[str, int] = {}
    for module in modules:
        limits: Mapping[str, int] = getattr(module, "value_limits", {})
        found |= {f"{prefix}{path}": limit for path, limit in limits.items()}
    return found


def include_routers(app: FastAPI, modules: Iterable[ModuleType], prefix: str, max_body_size: int) -> None:
    """Mounts each router by itself: one router around all would match every request's path twice."""
    responses = problem_responses(400, 401, 403, 404, 409, 413, 422, 429, 500, 503)
    for module in modules:
        router: APIRouter = module.router
        app.include_router(
            router,
            prefix=prefix,
            dependencies=[Depends(check_query)],
            responses=responses,
            max_body_size=max_body_size,
        )
