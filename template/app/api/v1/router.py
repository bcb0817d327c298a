"""Mounts the `router` of every module beside this one. Add a file to add endpoints; delete it to remove them."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from fastapi import APIRouter

from app.api.errors import problems

OF_PEOPLE = {"auth", "info", "users"}
"""Tags of what is about accounts themselves, which no API key may change."""

router = APIRouter(responses=problems(400, 401, 403, 404, 409, 413, 422, 429, 500, 503))
scopes = {"read"}
"""What API keys may be given: the tag of every other router, and `read` for any GET."""

for _module in iter_modules([str(Path(__file__).parent)]):
    if _module.name != "router":
        _sibling: APIRouter = import_module(f"{__package__}.{_module.name}").router
        router.include_router(_sibling)
        scopes |= {str(tag) for tag in _sibling.tags} - OF_PEOPLE
