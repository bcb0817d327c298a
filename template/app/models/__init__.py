"""Imports every model along with this package, as Alembic and SQLAlchemy's relationships need."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
