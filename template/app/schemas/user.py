from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from app.core.security import is_common
from app.schemas.base import Body, NotNull, Read, Text
from app.schemas.email_address import Email, NewEmail


def _uncommon(value: str) -> str:
    if is_common(value):
        raise ValueError("the password is too common; choose another one")
    return value


Password = Annotated[str, Field(min_length=8, max_length=128), AfterValidator(_uncommon)]

MailedToken = Annotated[str, Field(max_length=1000)]
FullName = Annotated[Text, Field(max_length=200)]


class UserCreate(Body):
    email: NewEmail
    password: Password
    full_name: FullName | None = None


class UserUpdate(Body):
    """Changes what users may change of their own account."""

    full_name: FullName | None = None


class UserAdminUpdate(Body):
    """Changes what superusers may change of any account."""

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
    """Holds the current password."""


class EmailConfirmation(Body):
    token: MailedToken


class UserRead(Read):
    """Describes an account."""

    id: UUID  # the fields are read from a User or from a Principal, which must have each of them
    email: str
    full_name: str | None
    is_active: bool
    is_superuser: bool
    email_verified: bool
    created_at: datetime


class Tokens(Read):
    access_token: str
    refresh_token: str
    """Works once; the response to its use has the next one."""
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the name of a scheme
    expires_in: int
    """Gives the lifetime of the access token in seconds."""


class RefreshBody(Body):
    refresh_token: Annotated[str, Field(min_length=1, max_length=200)]


class SessionRead(Read):
    id: UUID
    user_agent: str | None
    created_at: datetime
    last_used_at: datetime
    """Holds a time that is accurate to a few minutes."""
    expires_at: datetime
    current: bool
    """Tells whether the request was made with this session."""
