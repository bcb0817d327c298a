"""Reads values of JSON that somebody else has written, and that may have any type."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

_MAX_COUNT = 10**12


def to_object(value: Any) -> Mapping[str, Any]:
    """Returns the object; an empty one in place of anything else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def to_array(value: Any) -> Sequence[Any]:
    """Returns the array; an empty one in place of anything else."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else []


def to_text(value: Any) -> str:
    """Returns the text; an empty one in place of anything else."""
    return value if isinstance(value, str) else ""


def to_count(value: Any) -> int:
    """Returns the positive number, which may be in a text; 0 in place of anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = float(value)
    return int(value) if isinstance(value, (int, float)) and 0 < value < _MAX_COUNT else 0


def find_reference(root: Any, reference: str) -> Any:
    """Returns what a reference such as `#/$defs/name` means in a document; None if it means nothing."""
    found = root
    for part in reference.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            items = to_array(found)
            found = items[int(name)] if name.isdecimal() and int(name) < len(items) else None
        else:
            found = to_object(found).get(name)
    return found


def to_numbers(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the fields that are numbers from 0 on."""
    return {name: value for name, value in values.items() if isinstance(value, (int, float)) and value >= 0}


def walk(root: Any) -> Iterator[tuple[Any, int]]:
    """Yields all values of a JSON document, and the names in its objects, each with how deeply it is nested."""
    left: list[tuple[Any, int]] = [(root, 0)]
    while left:
        value, depth = left.pop()
        yield value, depth
        if isinstance(value, dict):
            for name, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
                left += [(name, depth + 1), (inner, depth + 1)]
        elif isinstance(value, list):
            left += [(inner, depth + 1) for inner in value]  # pyright: ignore[reportUnknownVariableType]
