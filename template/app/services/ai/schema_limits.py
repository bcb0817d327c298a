"""Limits JSON schemas that people write, before anything follows their references."""

import json
import re
from collections.abc import Mapping
from typing import Any

from app.core.errors import Invalid
from app.core.text import storable
from app.services.ai.json_values import find_reference, walk

MAX_BYTES = 32_000
MAX_DEPTH = 64
MAX_VALUES, MAX_CHARACTERS = 10_000, 200_000
"""Limits the values of schemas and their texts, also with each reference replaced, as some providers want it."""

_DEFINITION = re.compile(r"#/\$defs/[^/]+")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DIALECTS = (
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
)


class SchemaLimits:
    """Checks schemas that a model gets together, which may have so many values and characters in all."""

    def __init__(self) -> None:
        self._values = self._characters = 0

    def check(self, schema: Mapping[str, Any], subject: str) -> None:
        """Raises Invalid, with a sentence about the subject, unless it is a small schema of an object."""
        _check_size(schema, subject)
        if schema.get("type") != "object":
            raise Invalid(f'{subject} must describe an object: its "type" must be "object".')
        dialect = schema.get("$schema", _DIALECTS[-1])
        if not isinstance(dialect, str) or dialect.removesuffix("#") not in _DIALECTS:
            raise Invalid(f"{subject} must be of draft 7, 2019-09 or 2020-12; leave out its $schema otherwise.")
        unfolding = _Unfolding(schema, subject, MAX_VALUES - self._values, MAX_CHARACTERS - self._characters)
        unfolding.count(schema)
        self._values += unfolding.values
        self._characters += unfolding.characters


def _check_size(schema: Mapping[str, Any], subject: str) -> None:
    for value, depth in walk(schema):
        if depth > MAX_DEPTH:
            raise Invalid(f"{subject} is nested more than {MAX_DEPTH} levels deep.")
        if isinstance(value, str) and storable(value) != value:
            raise Invalid(f"{subject} must not have the character NUL, or half of a surrogate pair.")
    try:
        size = len(json.dumps(schema, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode())
    except ValueError:
        raise Invalid(f"{subject} must not have the numbers NaN and Infinity.") from None
    if size > MAX_BYTES:
        raise Invalid(f"{subject} must have at most {MAX_BYTES} bytes as JSON, and has {size}.")


class _Unfolding:
    """Counts the values of a schema with its references replaced, each except where it contains itself."""

    def __init__(self, root: Mapping[str, Any], subject: str, max_values: int, max_characters: int) -> None:
        self.values = self.characters = 0
        self._root = root
        self._subject = subject
        self._max_values = max_values
        self._max_characters = max_characters

    def count(self, value: Any, depth: int = 0, within: tuple[str, ...] = ()) -> None:
        """Raises Invalid, also for references that lead nowhere, or out of the schema."""
        self._count_value("", depth)
        if isinstance(value, list):
            for inner in value:  # pyright: ignore[reportUnknownVariableType]
                self.count(inner, depth + 1, within)
        elif isinstance(value, dict):
            for name, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
                self.characters += len(name)  # pyright: ignore[reportUnknownArgumentType]
                if isinstance(inner, str):
                    self._count_text(name, inner, depth, within)  # pyright: ignore[reportUnknownArgumentType]
                else:
                    self.count(inner, depth + 1, within)
        elif isinstance(value, str):
            self.characters += len(value)

    def _count_value(self, text: str, depth: int) -> None:
        self.values += 1
        self.characters += len(text)
        if self.values > self._max_values or self.characters > self._max_characters or depth > MAX_DEPTH:
            raise Invalid(
                f"{self._subject} may have at most {self._max_values} values and {self._max_characters} characters, "
                f"nested {MAX_DEPTH} levels deep, also with its references replaced by what they mean."
            )

    def _count_text(self, name: str, text: str, depth: int, within: tuple[str, ...]) -> None:
        self._count_value(text, depth)
        if name == "$id":
            raise Invalid(f"{self._subject} must not have an $id, since references are to its own $defs alone.")
        if name not in _REFERENCES:
            return
        if name != "$ref" or not _DEFINITION.fullmatch(text):  # some providers take no others
            raise Invalid(
                f"{self._subject} may refer to its own $defs alone, as #/$defs/name does, not to {text[:200]}."
            )
        found = find_reference(self._root, text)
        if not isinstance(found, dict | bool):
            raise Invalid(f"{self._subject} refers to {text[:200]}, which it does not have.")
        if text not in within:
            self.count(found, depth + 1, (*within, text))
