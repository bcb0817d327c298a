"""Finds the `router` of every module beside this one. Add a file to add endpoints; delete it to remove them."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from fastapi import APIRouter, Depends, FastAPI

from app.api.errors import problem_responses
from app.api.query import check_query
from app.api.scopes import grantable_scopes

_names = [found.name for found in iter_modules([str(Path(__file__).parent)]) if found.name != "router"]
_modules = [import_module(f"{__package__}.{name}") for name in _names]
_routers: list[APIRouter] = [module.router for module in _modules]

scopes = grantable_scopes(_routers)


def include_routers(app: FastAPI, prefix: str, max_body_size: int) -> None:
    """Mounts each router by itself: one router around all would match every request's path twice."""
    responses = problem_responses(400, 401, 403, 404, 409, 413, 422, 429, 500, 503)
    for router in _routers:
        app.include_router(
            router,
            prefix=prefix,
            dependencies=[Depends(check_query)],
            responses=responses,
            max_body_size=max_body_size,
        )
