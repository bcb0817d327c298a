"""Tests the arguments that the demo model gives to a tool: they always fit the tool's own schema."""

import json
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from time import perf_counter
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AnyUrl, BaseModel, EmailStr, Field, create_model

from app.services.ai.demo_arguments import write_arguments

QUESTION = "What is two and two?"


class Color(StrEnum):
    red = "red"
    blue = "blue"


class Address(BaseModel):
    street: str
    number: int = Field(gt=0)
    since: date | None


class Person(BaseModel):
    name: str
    addresses: list[Address]
    favourite: Color
    note: str = "none"


class Chain(BaseModel):
    next: "Chain | None"


class Tree(BaseModel):
    name: str
    branches: "list[Tree]"


class Sum(BaseModel):
    kind: Literal["sum"]
    left: "Sum | Product | Number"
    right: "Sum | Product | Number"


class Product(BaseModel):
    kind: Literal["product"]
    factor: "Sum | Product | Number"


class Number(BaseModel):
    kind: Literal["number"]
    value: float


KINDS: Sequence[Any] = [
    str,
    int,
    float,
    bool,
    None,
    bytes,
    Any,
    Decimal,
    date,
    datetime,
    time,
    timedelta,
    UUID,
    EmailStr,
    AnyUrl,
    IPv4Address,
    IPv6Address,
    Color,
    Literal["a", 1],
    Literal["only"],
    Address,
    Person,
    Chain,
    Tree,
    Sum,
    list[str],
    list[Address],
    set[int],
    tuple[int, str],
    tuple[int, ...],
    dict[str, int],
    int | None,
    Annotated[Sum | Number, Field(discriminator="kind")],
    Annotated[str, Field(min_length=50)],
    Annotated[str, Field(max_length=3)],
    Annotated[str, Field(min_length=30, max_length=30)],
    Annotated[str, Field(pattern=r"^[A-Z]{3}-\d+$", examples=["ABC-1"])],
    Annotated[list[int], Field(min_length=3)],
    Annotated[list[int], Field(max_length=0)],
    Annotated[list[Tree], Field(min_length=2)],
    Annotated[int, Field(ge=5)],
    Annotated[int, Field(gt=5, lt=7)],
    Annotated[int, Field(le=-5)],
    Annotated[int, Field(lt=0)],
    Annotated[int, Field(ge=7, multiple_of=5)],
    Annotated[int, Field(le=7, multiple_of=5)],
    Annotated[float, Field(gt=0, lt=1)],
    Annotated[float, Field(ge=0.5, le=0.7)],
    Annotated[float, Field(le=0.5)],
    Annotated[float, Field(gt=2.5)],
    Annotated[float, Field(ge=0.3, multiple_of=0.25)],
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_tool_accepts_what_it_is_given(kind: Any) -> None:
    tool = create_model("Tool", value=(kind, ...))
    given = write_arguments(tool.model_json_schema(), QUESTION)
    assert given.keys() == {"value"}
    tool.model_validate_json(json.dumps(given), strict=True)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, QUESTION),
        (True, QUESTION),
        ({"type": ["integer", "null"]}, 1),
        ({}, QUESTION),
        ({"type": "string", "maxLength": 8}, "What is "),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 7}, 7),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 3, "maximum": 9}, 3),
        ({"type": "integer", "default": 4, "minimum": 3}, 4),
        ({"type": "string", "format": "uuid"}, "00000000-0000-4000-8000-000000000000"),
        ({"type": "string", "format": "of its own"}, QUESTION),
        ({"type": "array", "items": {"type": "string"}}, [QUESTION]),
        ({"$ref": "#/properties/value/$defs/a~1b~0c", "$defs": {"a/b~c": {"const": 1}}}, 1),
    ],
)
def test_what_it_is_given(schema: dict[str, Any] | bool, value: Any) -> None:
    tool = {"type": "object", "properties": {"value": schema, "optional": {}}, "required": ["value"]}
    assert write_arguments(tool, QUESTION) == {"value": value}


@pytest.mark.parametrize(
    "endless",
    [
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    ],
)
def test_what_has_no_end_is_not_begun(endless: dict[str, Any]) -> None:
    assert write_arguments({"type": "object", "properties": {"value": endless}, "required": ["value"]}, QUESTION) == {}


@pytest.mark.parametrize(
    "huge",
    [
        {"type": "array", "minItems": 10**12},
        {"type": "string", "minLength": 10**12},
        {"type": "array", "minItems": 999, "items": {"type": "array", "minItems": 999, "items": {"minLength": 999}}},
        {"$ref": "#/$defs/0", "$defs": {str(n): {"anyOf": [{"$ref": f"#/$defs/{n + 1}"}] * 9} for n in range(20)}},
        {"type": "number", "minimum": 1e308, "multipleOf": 1e-308},
        {"type": "integer", "minimum": 10**400},
    ],
    ids=str,
)
def test_what_people_write_costs_little(huge: dict[str, Any]) -> None:
    schema = {"type": "object", "$defs": huge.get("$defs", {}), "properties": {"value": huge}, "required": ["value"]}
    began = perf_counter()
    assert len(json.dumps(write_arguments(schema, QUESTION))) < 1000
    assert perf_counter() - began < 5


def test_what_is_no_schema_of_an_object_has_no_properties() -> None:
    assert write_arguments({"type": "object", "properties": [], "required": "value"}, QUESTION) == {}


def test_what_is_required_need_not_be_described() -> None:
    assert write_arguments({"type": "object", "required": ["value"]}, QUESTION) == {"value": QUESTION}


def test_a_tool_without_parameters_is_given_none() -> None:
    assert write_arguments({"type": "object", "properties": {}}, QUESTION) == {}
    assert write_arguments({}, QUESTION) == QUESTION
