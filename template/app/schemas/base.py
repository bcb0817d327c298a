from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer

T = TypeVar("T")


class Body(BaseModel):
    """Validates what a client sends. Unknown fields are refused, so that a misspelt one does not pass for a default.

    A number that stands for a time counts seconds, whatever its size, and never milliseconds.
    """

    model_config = ConfigDict(extra="forbid", val_temporal_unit="seconds")


class Read(BaseModel):
    """Serializes what a client gets, from a row or a dataclass."""

    model_config = ConfigDict(from_attributes=True)


class PageRead(Read, Generic[T]):
    items: list[T]  # not a Sequence, which Pydantic validates in Python and so more slowly
    next_cursor: UUID | None


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("the text must not contain the character NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("the text must not contain half of a surrogate pair") from None
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("the text must not be blank")
    return value


def _not_null(value: T | None) -> T:
    if value is None:
        raise ValueError("the field cannot be null; leave it out instead")
    return value


Text = Annotated[str, AfterValidator(_storable)]
"""Accepts a string that every database can store."""

NotNull = Annotated[T | None, AfterValidator(_not_null)]
"""Marks a field of an update that may be left out, which keeps its value, but cannot be cleared with null."""

Money = Annotated[Decimal, PlainSerializer(lambda value: f"{value.normalize():f}", return_type=str, when_used="json")]
"""Holds US dollars; in JSON a string without an exponent, so that no digit is lost."""

Words = Annotated[Text, AfterValidator(_not_blank)]
"""Accepts a text that has more than white space."""


def changed(body: BaseModel) -> dict[str, Any]:
    """Returns the fields that the client sent, None included."""
    return body.model_dump(exclude_unset=True)
