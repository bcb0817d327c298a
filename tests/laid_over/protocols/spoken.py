"""Collects the dialects of the project's providers; each module with an underscore in its name defines some."""

from importlib import import_module
from pathlib import Path

from tests.protocols.dialect import Dialect

_NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*_*.py"))
_MODULES = [import_module(f"tests.protocols.{name}") for name in _NAMES if not name.startswith("__")]
DIALECTS = {found.model: found for module in _MODULES for found in vars(module).values() if isinstance(found, Dialect)}
INSTALLED = [dialect for dialect in DIALECTS.values() if dialect.installed]
