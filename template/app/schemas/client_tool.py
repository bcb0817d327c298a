"""Defines tools that a client declares with a message and runs itself, and the results that it gives."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import to_json

from app.schemas.base import Body, Text

NAME = re.compile(r"[a-zA-Z][\w-]{0,63}", re.ASCII)


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("the name must have letters, digits, _ and -, begin with a letter, and be at most 64 long")
    return value


def _storable(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        to_json(schema)
    except ValueError:
        raise ValueError("the schema is nested too deeply, or has half of a surrogate pair") from None
    return schema


class DeclaredTool(Body):
    """Describes a tool that a client runs, in whatever words its protocol allows."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] = Field(default={"type": "object", "properties": {}})
    """Describes the arguments of a call, as a JSON schema. The model may ignore it."""


class ClientTool(DeclaredTool):
    name: Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"})]
    description: Annotated[Text, Field(max_length=4_000)] = ""
    input_schema: Annotated[dict[str, Any], AfterValidator(_storable)] = Field(
        default={"type": "object", "properties": {}}
    )


def _distinct(tools: list[ClientTool]) -> list[ClientTool]:
    if repeated := _repeated([tool.name for tool in tools]):
        raise ValueError(f"two tools have the name {repeated}")
    return tools


ClientTools = Annotated[list[ClientTool], Field(max_length=50), AfterValidator(_distinct)]


class ToolResultCreate(Body):
    tool_call_id: Annotated[Text, Field(max_length=32)]
    content: Annotated[Text, Field(max_length=1_000_000)]
    """Holds what the tool returned; if it failed, a sentence for the model."""
    is_error: bool = False


def _once(results: list[ToolResultCreate]) -> list[ToolResultCreate]:
    if repeated := _repeated([result.tool_call_id for result in results]):
        raise ValueError(f"{repeated} has two results")
    return results


class ToolResultsCreate(Body):
    results: Annotated[list[ToolResultCreate], Field(min_length=1, max_length=1_000), AfterValidator(_once)]
    """Holds one result for each call of the client's tools for which the reply waits."""


def _repeated(names: Sequence[str]) -> str | None:
    return next((name for name, times in Counter(names).items() if times > 1), None)
