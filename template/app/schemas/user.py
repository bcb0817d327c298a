import re
from datetime import datetime
from typing import Annotated, Literal
from unicodedata import normalize
from uuid import UUID

from pydantic import AfterValidator, EmailStr, Field, TypeAdapter, ValidationError

from app.core.security import is_common
from app.schemas.base import Body, NotNull, Read, Text

Email = Annotated[EmailStr, AfterValidator(str.lower)]
"""An address in lower case: the same person is found however the address is typed."""


def _unambiguous(value: str) -> str:
    if re.search(r"[!%]|=\?", value) or normalize("NFKC", value) != value:
        raise ValueError("some mail servers would read this address as another one; use one in plain letters")
    return value


NewEmail = Annotated[Email, AfterValidator(_unambiguous)]
"""An address that somebody is about to be known by. Source routes and encoded words could make it someone else's."""


def _uncommon(value: str) -> str:
    if is_common(value):
        raise ValueError("it is among the passwords that are tried first; choose another")
    return value


Password = Annotated[str, Field(min_length=8, max_length=128), AfterValidator(_uncommon)]

_email = TypeAdapter[str](Email)


def normalize_email(value: str) -> str | None:
    """None when the value is not an address."""
    try:
        return _email.validate_python(value)
    except ValidationError:
        return None


MailedToken = Annotated[str, Field(max_length=1000)]
FullName = Annotated[Text, Field(max_length=200)]


class UserCreate(Body):
    email: NewEmail
    password: Password
    full_name: FullName | None = None


class UserUpdate(Body):
    """What people change of themselves."""

    full_name: FullName | None = None


class UserAdminUpdate(Body):
    """What superusers change of others."""

    is_active: NotNull[bool] = None
    is_superuser: NotNull[bool] = None


class PasswordChange(Body):
    current_password: Annotated[str, Field(max_length=128)]
    new_password: Password


class PasswordForgotten(Body):
    email: Email


class PasswordReset(Body):
    token: MailedToken
    password: Password


class EmailChange(Body):
    email: NewEmail
    password: Annotated[str, Field(max_length=128)]
    """The current one."""


class EmailConfirmation(Body):
    token: MailedToken


class UserRead(Read):
    """Of oneself it is read from a Principal, which has a field for each of these."""

    id: UUID
    email: str
    full_name: str | None
    is_active: bool
    is_superuser: bool
    email_verified: bool
    created_at: datetime


class Tokens(Read):
    access_token: str
    refresh_token: str
    """Good for one use; the answer has the next one."""
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the name of a scheme
    expires_in: int
    """Seconds that the access token lives."""


class RefreshBody(Body):
    refresh_token: Annotated[str, Field(min_length=1, max_length=200)]


class SessionRead(Read):
    id: UUID
    user_agent: str | None
    created_at: datetime
    last_used_at: datetime
    """To within a few minutes."""
    expires_at: datetime
    current: bool
    """Whether it is the one that asks."""
