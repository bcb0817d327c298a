"""Reads values of JSON that somebody else has written, and that may have any type."""

from collections.abc import Mapping, Sequence
from typing import Any, cast


def to_object(value: Any) -> Mapping[str, Any]:
    """Returns the object; an empty one in place of anything else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def to_array(value: Any) -> Sequence[Any]:
    """Returns the array; an empty one in place of anything else."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else []


def to_text(value: Any) -> str:
    """Returns the text; an empty one in place of anything else."""
    return value if isinstance(value, str) else ""
