import re
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field

from app.core.security import PASSWORD_CHARACTERS, TYPED_CHARACTERS, is_common, normalize_password
from app.schemas.base import Body, NotNull, Read, Text
from app.schemas.email_address import Email, NewEmail


def _normalized(value: Any) -> Any:
    return normalize_password(value) if isinstance(value, str) else value


def _choosable(value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f-\x9f]", value):
        raise ValueError("the password must not contain control characters")
    if is_common(value):
        raise ValueError("the password is too common; choose another one")
    return value


Password = Annotated[
    str,
    Field(min_length=8, max_length=PASSWORD_CHARACTERS),
    BeforeValidator(_normalized),
    AfterValidator(_choosable),
]
"""Holds a new password in its one spelling, of which the limits count the characters."""

CurrentPassword = Annotated[str, Field(max_length=TYPED_CHARACTERS)]
"""Holds a password as it was typed, since an old hash may be of that."""

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
    current_password: CurrentPassword
    new_password: Password


class PasswordForgotten(Body):
    email: Email


class PasswordReset(Body):
    token: MailedToken
    password: Password


class EmailChange(Body):
    email: NewEmail
    password: CurrentPassword


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
