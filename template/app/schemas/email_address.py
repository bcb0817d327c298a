import re
from typing import Annotated
from unicodedata import normalize

from pydantic import AfterValidator, EmailStr, TypeAdapter, ValidationError

Email = Annotated[EmailStr, AfterValidator(str.lower)]
"""Holds an address in lower case, so that an account is found however its address is typed."""


def _unambiguous(value: str) -> str:
    if re.search(r"[!%]|=\?", value) or normalize("NFKC", value) != value:
        raise ValueError("some mail servers would read this address as another one; use one in plain letters")
    return value


NewEmail = Annotated[Email, AfterValidator(_unambiguous)]
"""Accepts an address for an account. Source routes and encoded words, which could lead to others, are refused."""

_email = TypeAdapter[str](Email)


def normalize_email(value: str) -> str | None:
    """Returns the address in lower case; None when the value is not an address."""
    try:
        return _email.validate_python(value)
    except ValidationError:
        return None
