from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer

T = TypeVar("T")


class Body(BaseModel):
    """What a client sends. An unknown field is refused, so that a typing error is not taken for a default.

    A number that stands for a moment is one of seconds, never sometimes of milliseconds.
    """

    model_config = ConfigDict(extra="forbid", val_temporal_unit="seconds")


class Read(BaseModel):
    """What a client gets, made from a row or a dataclass."""

    model_config = ConfigDict(from_attributes=True)


class PageRead(Read, Generic[T]):
    items: list[T]  # not a Sequence, which pydantic looks through in Python
    next_cursor: UUID | None


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("the character NUL is not allowed")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is not text") from None
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("it must not be blank")
    return value


def _not_null(value: T | None) -> T:
    if value is None:
        raise ValueError("it cannot be null; leave it out instead")
    return value


Text = Annotated[str, AfterValidator(_storable)]
"""A string that every database can store."""

NotNull = Annotated[T | None, AfterValidator(_not_null)]
"""A field that may be left out, by which it stays as it is, but cannot be cleared."""

Money = Annotated[Decimal, PlainSerializer(lambda value: f"{value.normalize():f}", return_type=str, when_used="json")]
"""US dollars: a string without an exponent, so that nothing is lost on the way."""

Words = Annotated[Text, AfterValidator(_not_blank)]
"""A text with more than white space."""


def changed(body: BaseModel) -> dict[str, Any]:
    """The fields that the client sent, None included."""
    return body.model_dump(exclude_unset=True)
