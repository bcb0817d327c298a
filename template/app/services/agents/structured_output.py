"""Checks the output schemas of agents, and the answers that models give to them, in processes with limits."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from app.core.errors import AppError, Busy, Invalid
from app.core.text import storable
from app.services.agents.json_schema import find_error, read_answer, walk
from app.services.ai.json_values import find_reference
from app.services.processes.process_pool import ProcessPool, TookTooLong, open_process_pool

MAX_RETRIES = 2
"""Limits how often a model is asked again whose answers do not fit."""
MAX_BYTES = 32_000
MAX_DEPTH = 64
MAX_VALUES = 10_000
"""Limits the values of a schema, also with each reference replaced by what it means, as some providers want it."""
PROCESSES = 2
CHECK_SECONDS = 5.0
"""Limits one check: some schemas take time that doubles with each level of an answer."""

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DIALECTS = (
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
)


class InvalidOutput(AppError):
    """Signals that a model's answers did not fit the output schema, however often it was asked."""

    code = "invalid_output"


class OutputChecker:
    def __init__(self, processes: ProcessPool) -> None:
        self._processes = processes

    async def check_schema(self, schema: Mapping[str, Any]) -> None:
        """Raises Invalid if agents cannot have this output schema, and Busy."""
        _check_size(schema)
        if schema.get("type") != "object":
            raise Invalid('The output schema must describe an object: its "type" must be "object".')
        _check_dialect(schema)
        _Unfolding(schema).count(schema)
        try:
            error = await self._processes.do(find_error, schema)
        except TookTooLong:
            error = "The output schema takes too long to check; make it simpler."
        if error is not None:
            raise Invalid(error)

    async def read_answer(self, schema: Mapping[str, Any], text: str) -> tuple[Mapping[str, Any], str | None]:
        """Returns the object that a model wrote, or a sentence that says why it does not fit the schema."""
        try:
            return await self._processes.do(read_answer, schema, text)
        except Busy:  # also if it takes too long, or too much memory
            return {}, "The answer could not be checked against the output schema in time."


@asynccontextmanager
async def open_output_checker() -> AsyncGenerator[OutputChecker]:
    async with open_process_pool(PROCESSES, CHECK_SECONDS) as processes:
        yield OutputChecker(processes)


def to_json(value: Mapping[str, Any]) -> str:
    """Returns the JSON that stands for structured output wherever there is only text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _check_size(schema: Mapping[str, Any]) -> None:
    for value, depth in walk(schema):
        if depth > MAX_DEPTH:
            raise Invalid(f"The output schema is nested more than {MAX_DEPTH} levels deep.")
        if isinstance(value, str) and storable(value) != value:
            raise Invalid("The output schema must not have the character NUL, or half of a surrogate pair.")
    try:
        size = len(json.dumps(schema, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode())
    except ValueError:
        raise Invalid("The output schema must not have the numbers NaN and Infinity.") from None
    if size > MAX_BYTES:
        raise Invalid(f"The output schema must have at most {MAX_BYTES} bytes as JSON, and has {size}.")


def _check_dialect(schema: Mapping[str, Any]) -> None:
    dialect = schema.get("$schema", _DIALECTS[-1])
    if not isinstance(dialect, str) or dialect.removesuffix("#") not in _DIALECTS:
        raise Invalid("The output schema must be of draft 7, 2019-09 or 2020-12; leave out its $schema otherwise.")


class _Unfolding:
    """Counts the values of a schema with its references replaced, each except where it contains itself."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._values = 0

    def count(self, value: Any, depth: int = 0, within: tuple[str, ...] = ()) -> None:
        """Raises Invalid, also for references that lead nowhere, or out of the schema."""
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            raise Invalid(
                f"The output schema may have at most {MAX_VALUES} values, nested {MAX_DEPTH} levels deep, "
                "also with its references replaced by what they mean."
            )
        if isinstance(value, list):
            for inner in value:  # pyright: ignore[reportUnknownVariableType]
                self.count(inner, depth + 1, within)
        elif isinstance(value, dict):
            for name, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
                if isinstance(inner, str):
                    self._count_text(name, inner, depth, within)  # pyright: ignore[reportUnknownArgumentType]
                else:
                    self.count(inner, depth + 1, within)

    def _count_text(self, name: str, text: str, depth: int, within: tuple[str, ...]) -> None:
        self._values += 1
        if name == "$id":
            raise Invalid("The output schema must not have an $id, since references are to its own parts alone.")
        if name not in _REFERENCES:
            return
        if name != "$ref" or not (text == "#" or text.startswith("#/")):
            raise Invalid(
                f'The output schema may refer to its own parts alone, as in {{"$ref": "#/$defs/name"}}: {text[:200]}'
            )
        found = find_reference(self._root, text)
        if not isinstance(found, dict | bool):
            raise Invalid(f"The output schema refers to {text[:200]}, which it does not have.")
        if text not in within:
            self.count(found, depth + 1, (*within, text))
