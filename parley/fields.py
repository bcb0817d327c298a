"""Parses the fields of a slice from the command line: `title:str`, `due:date?`, `status:open|closed`."""

import keyword
import re
from dataclasses import dataclass

from pydantic import BaseModel

from parley.errors import ParleyError

WORD = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
NAME_CHARACTERS = 30
OF_TABLES = {"created_at", "id", "metadata", "registry", "user_id"}
OF_FILES = {"date", "datetime", "float", "int", "sa", "self", "str", "bool"}
"""Names what the files of a slice use already, and what a field of that name would shadow."""


@dataclass(frozen=True)
class Kind:
    """Describes how a kind of field is generated. Values are Python expressions for JSON values."""

    python: str
    first: str
    second: str
    wrong: tuple[str, ...]
    """Lists values that the API must refuse."""
    column: str = ""
    """Holds the argument of `mapped_column`, where the annotation is not enough."""
    limited: str = ""
    """Names the type of a client's value, where not every value of the Python type is allowed."""


KINDS = {
    "str": Kind(
        "str", '"The first"', '"The second"', ('" "', '"x" * 201'), column="sa.String(200)", limited="ShortText"
    ),
    "text": Kind("str", '"The first"', '"The second"', ('" "', '"x" * 10_001'), column="sa.Text", limited="LongText"),
    "int": Kind("int", "1", "2", ("2**31", '"many"'), limited="Integer"),
    "float": Kind("float", "1.5", "2.5", ('"Infinity"', '"much"'), limited="Number"),
    "bool": Kind("bool", "False", "True", ('"perhaps"',)),
    "date": Kind("date", '"2026-01-01"', '"2026-01-02"', ('"soon"',)),
    "datetime": Kind(
        "datetime",
        '"2026-01-01T12:00:00Z"',
        '"2026-01-02T12:00:00Z"',
        ('"2026-01-01T12:00:00"', '"0001-01-01T00:00:00+14:00"'),
        limited="Moment",
    ),
    "uuid": Kind(
        "UUID",
        '"00000000-0000-4000-8000-000000000001"',
        '"00000000-0000-4000-8000-000000000002"',
        ('"one"',),
    ),
}


@dataclass(frozen=True)
class Field:
    name: str
    kind: Kind
    is_optional: bool = False
    choices: tuple[str, ...] = ()
    """Lists the values of a field that has an enumeration of its own."""

    @property
    def annotation(self) -> str:
        return f"{self.kind.python} | None" if self.is_optional else self.kind.python

    @property
    def accepted(self) -> str:
        """Returns the type of the value that a client sends."""
        return self.kind.limited or self.kind.python

    @property
    def wrong(self) -> tuple[str, ...]:
        return self.kind.wrong if self.is_optional else (*self.kind.wrong, "None")


def read_fields(asked: list[str], thing: str) -> list[Field]:
    """Parses the fields of a class from the command line. Raises ParleyError."""
    fields = [_read(each, thing) for each in asked]
    names = [field.name for field in fields]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ParleyError(f"The field {twice[0]} is given twice: leave one out.")
    return fields


def _read(asked: str, thing: str) -> Field:
    name, colon, kind = asked.removesuffix("?").partition(":")
    is_optional = asked.endswith("?")
    if not name:
        raise ParleyError(f"The field {asked!r} has no name: write NAME:KIND.")
    if colon and not kind:
        kinds = ", ".join(KINDS)
        raise ParleyError(f"The field {asked!r} has no kind: write {name} alone, or one of {kinds} after it.")
    _check_name(name)
    if "|" in kind:
        choices = tuple(kind.split("|"))
        if not all(choices):
            raise ParleyError(f"{asked!r} has an empty choice.")
        _check_choices(name, choices)
        enumeration = f"{thing}{camel(name)}"
        first, last = (f'"{choice}"' for choice in (choices[0], choices[-1]))
        return Field(name, Kind(enumeration, first, last, ('"none of them"',)), is_optional, choices)
    if (kind := kind or "str") not in KINDS:
        raise ParleyError(
            f"{kind!r} is not a kind of field: use one of {', '.join(KINDS)}, or choices such as open|closed."
        )
    return Field(name, KINDS[kind], is_optional)


def _check_name(name: str) -> None:
    check_word(name)
    if name in OF_TABLES | OF_FILES or hasattr(BaseModel, name):
        raise ParleyError(f"A field cannot be called {name}, which means something else already: choose another name.")


def _check_choices(name: str, choices: tuple[str, ...]) -> None:
    for choice in choices:
        check_word(choice)
        if hasattr(str, choice) or choice in {"mro", "name", "value"}:
            raise ParleyError(f"{choice!r} cannot be a choice of {name}, since every text has a method of that name.")
    if len(set(choices)) < len(choices):
        raise ParleyError(f"Two choices of {name} are the same: leave one out.")


def check_word(word: str, more: str = "") -> None:
    """Raises ParleyError for a word that cannot name a Python object, a table and a path. `more` ends the message."""
    if keyword.iskeyword(word):
        raise ParleyError(f"{word!r} is a Python keyword: choose another name.{more}")
    if not WORD.fullmatch(word):
        example = "write lower-case words with _ between them: meeting_note."
        raise ParleyError(f"{word!r} cannot be a name here: {example}{more}")
    if len(word) > NAME_CHARACTERS:
        raise ParleyError(f"{word!r} is too long: a name has at most {NAME_CHARACTERS} characters.{more}")


def camel(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("_"))
