"""Holds the background jobs: each is one function with the decorator `job`. Every module here is found by itself."""

from importlib import import_module
from pkgutil import iter_modules

from app.core.jobs import jobs

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["jobs"]
