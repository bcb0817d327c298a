from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import SECRET, Base, Owned, now


class User(Base):
    __tablename__ = "users"

    email: Mapped[str] = mapped_column(sa.String(320), unique=True)
    """Holds the address in lower case, so that no address can be registered twice."""
    full_name: Mapped[str | None] = mapped_column(sa.String(200))
    hashed_password: Mapped[str] = mapped_column(sa.String(255), info=SECRET)
    is_active: Mapped[bool] = mapped_column(default=True)
    is_superuser: Mapped[bool] = mapped_column(default=False)
    email_verified: Mapped[bool] = mapped_column(default=False)


class UserSession(Owned):
    """Represents one login. Its access and refresh tokens are void without this row."""

    __tablename__ = "sessions"

    expires_at: Mapped[datetime] = mapped_column(index=True)
    last_used_at: Mapped[datetime] = mapped_column(default=now)
    """Holds a time that is accurate to a few minutes, so that not every request writes it."""
    user_agent: Mapped[str | None] = mapped_column(sa.String(400))


class RefreshToken(Base):
    """Stores one refresh token of a session, hashed. Replaced tokens stay, so that their reuse is detected."""

    __tablename__ = "refresh_tokens"

    session_id: Mapped[UUID] = mapped_column(sa.ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    hashed_token: Mapped[str] = mapped_column(sa.String(64), unique=True, info=SECRET)
    rotated_at: Mapped[datetime | None]
    """Tells when another token replaced it; None for the current one."""


class ApiKey(Owned):
    __tablename__ = "api_keys"

    name: Mapped[str] = mapped_column(sa.String(100))
    prefix: Mapped[str] = mapped_column("start", sa.String(16))
    """Shows how the key begins, so that a person can tell it from others."""
    hashed_key: Mapped[str] = mapped_column(sa.String(64), unique=True, info=SECRET)
    scopes: Mapped[list[str]] = mapped_column(sa.JSON)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    last_used_at: Mapped[datetime | None]
    """Holds a time that is accurate to a few minutes."""


class EmailPurpose(StrEnum):
    verify = "verify"
    reset = "reset"
    change = "change"


class EmailToken(Owned):
    """Allows one use of a mailed token. The token itself is signed and not stored; without this row it is void."""

    __tablename__ = "email_tokens"

    purpose: Mapped[EmailPurpose]
    email: Mapped[str] = mapped_column(sa.String(320))
    """Names the address that it was sent to."""
    expires_at: Mapped[datetime] = mapped_column(index=True)
