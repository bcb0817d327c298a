"""Writes arguments that a JSON schema allows, with the words of a question where it allows any text.

What the schema itself offers comes first: a constant, a default, an example. Optional properties are left out. A text
that must match a pattern, and items that must differ, need such an offer. People write schemas, too: what would take
too many values is not written.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import ceil
from operator import ge, gt, le, lt
from typing import Any

from app.services.ai.json_values import find_reference, to_array, to_object

Schema = Mapping[str, Any]

_DEPTH = 16
"""Limits the depth of a schema that refers to itself."""
_MAX_VALUES = 10_000
_MAX_CHARACTERS = 10_000
_BOUNDS = {"minimum": ge, "exclusiveMinimum": gt, "maximum": le, "exclusiveMaximum": lt}
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "PT1H",
    "email": "demo@example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "ipvanyaddress": "192.0.2.1",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class _TooMuch(Exception):
    pass


def write_arguments(schema: Schema, question: str) -> Any:
    """Returns arguments that the schema allows; none if its required parts are too many, or its numbers too large."""
    try:
        return _Writer(schema, question).value(schema, 0)
    except (_TooMuch, ArithmeticError):
        return {}


class _Writer:
    def __init__(self, root: Schema, words: str) -> None:
        self._root = root
        self._words = words
        self._values = 0

    def value(self, schema: Schema | bool, depth: int) -> Any:
        self._values += 1
        if depth > _DEPTH or self._values > _MAX_VALUES:
            raise _TooMuch
        if isinstance(schema, bool):  # true allows anything, and nothing fits false
            return self._words
        if "$ref" in schema:
            beside = {key: schema[key] for key in schema if key != "$ref"}
            return self.value({**to_object(find_reference(self._root, schema["$ref"])), **beside}, depth + 1)
        for offer in ("const", "default"):
            if offer in schema:
                return schema[offer]
        for offers in ("enum", "examples"):
            if schema.get(offers):
                return schema[offers][0]
        if choices := schema.get("anyOf") or schema.get("oneOf"):
            return self._any(choices, depth)
        return self._typed(schema, depth)

    def _any(self, choices: Sequence[Schema], depth: int) -> Any:
        """Writes the first choice that does not refer to itself without end."""
        for choice in choices:
            with suppress(_TooMuch):
                return self.value(choice, depth + 1)
        raise _TooMuch

    def _typed(self, schema: Schema, depth: int) -> Any:
        first = next(iter(to_array(schema.get("type"))), None)
        match schema.get("type") if first is None else first:
            case "object":
                properties, required = to_object(schema.get("properties")), to_array(schema.get("required"))
                return {name: self.value(properties.get(name, {}), depth + 1) for name in map(str, required)}
            case "array":
                return self._items(schema, depth)
            case "integer" | "number":
                return _number(schema)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._text(schema)

    def _items(self, schema: Schema, depth: int) -> Sequence[Any]:
        """Writes as many items as there must be, or one if there may be none."""
        least, most = schema.get("minItems", 0), schema.get("maxItems", 1)
        if least > _MAX_VALUES:
            raise _TooMuch
        items = schema.get("prefixItems") or [schema.get("items", {})] * max(int(least), min(int(most), 1))
        try:
            return [self.value(item, depth + 1) for item in items]
        except _TooMuch:
            if least:
                raise
            return []

    def _text(self, schema: Schema) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        least, most = schema.get("minLength", 0), schema.get("maxLength", _MAX_CHARACTERS)
        if least > _MAX_CHARACTERS:
            raise _TooMuch
        return self._words[:_MAX_CHARACTERS].ljust(int(least), ".")[: int(most)]


def _number(schema: Schema) -> float:
    """Returns the smallest number that the schema allows, or else another that it allows."""
    step = schema.get("multipleOf", 1)
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    near = step if low is None and high is None else high if low is None else low
    first = ceil(near / step) * step
    found = (number for number in (first, first + step, first - step) if _is_within(schema, number))
    return next(found, near if low is None or high is None else (low + high) / 2)


def _is_within(schema: Schema, number: float) -> bool:
    return all(compare(number, schema[name]) for name, compare in _BOUNDS.items() if name in schema)
