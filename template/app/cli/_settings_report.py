"""What the `doctor` command says about settings, and which modules of the application it asks."""

import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from app.cli._report import Report
from app.core.errors import SetupError

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

APP = Path(__file__).parents[1]
VALUE_CHARACTERS = 60
_STAND_INS = {"secret_key": "stands in for a secret key that is wrong"}
_SETTINGS = re.compile(r"(?m)^class \w+\(.*\bBaseSettings\b")

S = TypeVar("S", bound="BaseSettings")


def modules_with(pattern: re.Pattern[str]) -> Iterator[ModuleType]:
    """Those of the application whose text has it: to import all of them takes seconds."""
    for path in sorted(APP.rglob("*.py")):
        if pattern.search(path.read_text(encoding="utf-8")):
            yield import_module(".".join(["app", *path.relative_to(APP).with_suffix("").parts]))


def check_settings(report: Report) -> "dict[type[BaseSettings], set[str]]":
    """Each kind of settings, with the names of those that are wrong.

    Whoever reads settings afterwards finds stand-ins in place of what is wrong, so that the rest can be looked at, too.
    """
    return {kind: _read(report, kind) for module in modules_with(_SETTINGS) for kind in _kinds(module)}


def shown(value: object) -> str:
    """In one short line, and without a password."""
    from sqlalchemy import URL

    if isinstance(value, URL):  # a password may be in its place or in the query
        value = value.set(query={}).render_as_string(hide_password=True)
    text = " ".join(str(value).split())
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]} …"


def _kinds(module: ModuleType) -> "Iterator[type[BaseSettings]]":
    from pydantic_settings import BaseSettings

    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, BaseSettings) and value.__module__ == module.__name__:
            yield value


def _read(report: Report, kind: "type[BaseSettings]") -> set[str]:
    """The names of those that are wrong."""
    wrong = set[str]()
    for sentence in _sentences(kind):
        wrong.add(_name(sentence))
        (report.missing if "it is missing" in sentence else report.problem)(sentence)
    settings = _read_without(kind, wrong)
    for name, text in _noteworthy(settings) if settings else ():
        if name not in wrong:
            report.setting(name.upper(), text)
    return wrong


def _sentences(kind: "type[BaseSettings]") -> list[str]:
    """One for each setting that is wrong."""
    from app.core.config import read_settings

    try:
        read_settings(kind)
    except SetupError as error:
        return re.split(r"(?<=\.) (?=[A-Z][A-Z0-9_]*: )", str(error))
    return []


def _name(sentence: str) -> str:
    return sentence.partition(":")[0].lower()


def _read_without(kind: type[S], wrong: set[str]) -> S | None:
    """Takes what is wrong out of the environment, and also what a default is then at odds with.

    None when something is missing for which there is no stand-in.
    """
    while True:
        _set_aside(kind, wrong)
        more = {_name(sentence) for sentence in _sentences(kind)}
        if not more:
            return kind()
        if more <= wrong:
            return None
        wrong |= more


def _set_aside(kind: "type[BaseSettings]", names: set[str]) -> None:
    for variable in [variable for variable in os.environ if variable.lower() in names]:
        del os.environ[variable]
    for name in names & kind.model_fields.keys() & _STAND_INS.keys():
        os.environ[name.upper()] = _STAND_INS[name]


def _noteworthy(settings: "BaseSettings") -> Iterator[tuple[str, str]]:
    """Secrets, without their values, and what .env or the environment changed."""
    from pydantic import SecretStr

    usual = _usual(settings)
    for name, value in settings:
        if isinstance(value, SecretStr):
            yield name, "is set"
        elif type(settings).model_fields[name].is_required() or value != getattr(usual, name):
            yield name, f"is {shown(value)}"


def _usual(settings: S) -> S:
    """What the settings are without .env and environment, but for those that have no default."""
    from dotenv import dotenv_values

    from app.core.config import DEFAULTS_FILE

    kind, chosen = type(settings), dotenv_values(DEFAULTS_FILE, interpolate=False)
    values: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        default = getattr(settings, name) if field.is_required() else field.get_default(call_default_factory=True)
        values[name] = chosen.get(name.upper()) or default
    return kind(**values)
