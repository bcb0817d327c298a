"""Checks the settings for the `doctor` command, and finds the modules of the application that it asks."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from difflib import SequenceMatcher, get_close_matches
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
SIMILAR = 0.8
_EXAMPLES = re.compile(r"(?m)^#?([A-Z][A-Z0-9_]*)=")
_STAND_INS = {"secret_key": "stands in for a secret key that is wrong"}
_SETTINGS = re.compile(r"(?m)^class \w+\(.*\bBaseSettings\b")

S = TypeVar("S", bound="BaseSettings")


def modules_with(pattern: re.Pattern[str]) -> Iterator[ModuleType]:
    """Yields the modules of the application whose source matches: importing all of them would take seconds."""
    for path in sorted(APP.rglob("*.py")):
        if pattern.search(path.read_text(encoding="utf-8")):
            yield import_module(".".join(["app", *path.relative_to(APP).with_suffix("").parts]))


def check_settings(report: Report) -> "dict[type[BaseSettings], set[str]]":
    """Returns each class of settings, with the names of the settings that are wrong.

    Code that reads settings afterwards gets stand-ins for the wrong ones, so that the rest can be checked, too.
    """
    return {kind: _read(report, kind) for module in modules_with(_SETTINGS) for kind in _kinds(module)}


def check_names(report: Report, known: set[str]) -> None:
    """Reports lines of `.env` that are nearly called like a setting. Others may be for libraries, or the owner's."""
    from dotenv import dotenv_values

    from app.core.config import ENV_FILE, ROOT

    with suppress(OSError, ValueError):
        known = known.union(_EXAMPLES.findall((ROOT / ".env.example").read_text(encoding="utf-8")))
    for name in sorted(dotenv_values(ENV_FILE, interpolate=False).keys() - known):
        near = get_close_matches(name.upper(), sorted(known), 1, SIMILAR)
        if near and name.upper() not in known and _differing(name.upper(), near[0]) <= 2:
            report.off(f"{name} in .env is no setting; did you mean {near[0]}?")


def _differing(one: str, other: str) -> int:
    same = sum(block.size for block in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks())
    return max(len(one), len(other)) - same


def shown(value: object) -> str:
    """Formats a value in one short line, without a password."""
    from sqlalchemy import URL

    from app.core.postgresql_url import public

    if isinstance(value, URL):  # a password may be in its place or in the query
        value = public(value)
    text = " ".join(str(value).split())
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]} …"


def _kinds(module: ModuleType) -> "Iterator[type[BaseSettings]]":
    from pydantic_settings import BaseSettings

    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, BaseSettings) and value.__module__ == module.__name__:
            yield value


def _read(report: Report, kind: "type[BaseSettings]") -> set[str]:
    """Reports the settings of one class, and returns the names of those that are wrong."""
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
    """Returns a sentence for each setting that is wrong."""
    from app.core.config import read_settings

    try:
        read_settings(kind)
    except SetupError as error:
        return re.split(r"(?<=\.) (?=[A-Z][A-Z0-9_]*: )", str(error))
    return []


def _name(sentence: str) -> str:
    return sentence.partition(":")[0].lower()


def _read_without(kind: type[S], wrong: set[str]) -> S | None:
    """Removes wrong settings from the environment, and those that then contradict a default; reads the others.

    Returns None when a setting is missing that has no stand-in. Adds what it finds to `wrong`.
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
    """Yields secrets, without their values, and what .env or the environment changed."""
    from pydantic import SecretStr

    usual = _usual(settings)
    for name, value in settings:
        if isinstance(value, SecretStr):
            yield name, "is set"
        elif type(settings).model_fields[name].is_required() or value != getattr(usual, name):
            yield name, f"is {shown(value)}"


def _usual(settings: S) -> S:
    """Returns the settings as they are without .env and environment, except those that have no default."""
    from dotenv import dotenv_values

    from app.core.config import DEFAULTS_FILE

    kind, chosen = type(settings), dotenv_values(DEFAULTS_FILE, interpolate=False)
    values: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        default = getattr(settings, name) if field.is_required() else field.get_default(call_default_factory=True)
        values[name] = chosen.get(name.upper()) or default
    return kind(**values)
