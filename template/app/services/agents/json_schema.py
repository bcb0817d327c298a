"""Compiles JSON schemas, and checks answers against them. It runs in processes of its own, and so imports little."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from string import ascii_letters
from typing import Any

from app.core.text import storable
from app.services.ai.json_values import walk

MAX_DEPTH = 64
"""Limits how deeply the values of an answer are nested."""
PATTERN_BYTES = 1 << 20
"""Limits the compiled size of each pattern of a schema."""
SHOWN_CHARACTERS = 300

_FENCE = "```"
_PATTERNS = {"pattern", "patternProperties"}


class _InvalidAnswer(ValueError):
    pass


def find_error(schema: Mapping[str, Any]) -> str | None:
    """Returns a sentence that says why a schema cannot be used, if it cannot."""
    import jsonschema_rs

    try:
        _compile(schema)
    except jsonschema_rs.ValidationError as error:
        path = _pointer(error.instance_path)
        if _PATTERNS & {str(name) for name in error.instance_path} and error.kind.name == "format":
            return (
                f"The output schema has a pattern at {path} that cannot be used: it is malformed, or has look-around, "
                "references to groups or very large repetitions, which are not supported."
            )
        return f"The output schema is not a valid JSON schema at {path}: {_shorten(error.message)}."
    return None


def find_flaw(schema: Mapping[str, Any]) -> str | None:
    """Returns where a schema is not a valid one, if it is not. It must be within the limits, and is not compiled."""
    import jsonschema_rs

    try:
        jsonschema_rs.meta.validate(dict(schema))
    except jsonschema_rs.ValidationError as error:
        return f"at {_pointer(error.instance_path)}: {_shorten(error.message)}"
    return None


def read_answer(schema: Mapping[str, Any], text: str) -> tuple[dict[str, Any], str | None]:
    """Returns the object that a model wrote, and a sentence that says why it does not fit the schema, if it does not.

    JSON in a code fence is taken out of it.
    """
    import jsonschema_rs

    try:
        answer = _parse(_without_fence(text.strip()))
        _compile(schema).validate(answer)
    except _InvalidAnswer as error:
        return {}, str(error)
    except jsonschema_rs.ValidationError as error:
        place = _pointer(error.instance_path)
        return {}, f"The answer does not fit the output schema at {place}: {_shorten(error.message)}."
    return answer, None


def _compile(schema: Mapping[str, Any]) -> Any:
    """Compiles a schema. Its patterns take time in proportion to the text only, and it can fetch nothing."""
    import jsonschema_rs

    options = jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES)
    return jsonschema_rs.validator_for(
        dict(schema), pattern_options=options, validate_formats=False, offline=True, mask="the value"
    )


def _without_fence(text: str) -> str:
    if len(text) < 2 * len(_FENCE) or not (text.startswith(_FENCE) and text.endswith(_FENCE)):
        return text
    return text[len(_FENCE) : -len(_FENCE)].lstrip(ascii_letters)


def _parse(text: str) -> dict[str, Any]:
    """Parses a JSON object that every database and every client can hold. Raises _InvalidAnswer."""
    try:
        answer = json.loads(text, object_pairs_hook=_to_object, parse_float=_to_float, parse_constant=_to_float)
    except _InvalidAnswer:
        raise
    except json.JSONDecodeError as error:
        raise _InvalidAnswer(
            f"The answer is not JSON: {error.msg}, in line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise _InvalidAnswer("The answer is nested too deeply.") from None
    except ValueError:  # Python reads no integers of many thousands of digits
        raise _InvalidAnswer("The answer has a number that is too large.") from None
    if not isinstance(answer, dict):
        raise _InvalidAnswer("The answer is not a JSON object.")
    found: dict[str, Any] = answer  # pyright: ignore[reportUnknownVariableType]
    for value, depth in walk(found):
        if depth > MAX_DEPTH:
            raise _InvalidAnswer(f"The answer is nested more than {MAX_DEPTH} levels deep.")
        if isinstance(value, str) and storable(value) != value:
            raise _InvalidAnswer("The answer has the character NUL, or half of a surrogate pair.")
    return found


def _to_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _InvalidAnswer("The answer has an object with the same name twice.")
    return found


def _to_float(text: str) -> float:
    if not isfinite(value := float(text)):
        raise _InvalidAnswer(f"The answer has the number {_shorten(text)}, which JSON cannot hold.")
    return value


def _pointer(path: Sequence[str | int]) -> str:
    return _shorten("/" + "/".join(map(str, path)))


def _shorten(text: str) -> str:
    text = storable(" ".join(text.split())).removesuffix(".")
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …"
