from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import SECRET, Base, Owned


class User(Base):
    __tablename__ = "users"

    email: Mapped[str] = mapped_column(sa.String(320), unique=True)
    """In lower case, so that no address can be registered twice."""
    full_name: Mapped[str | None] = mapped_column(sa.String(200))
    hashed_password: Mapped[str] = mapped_column(sa.String(255), info=SECRET)
    is_active: Mapped[bool] = mapped_column(default=True)
    is_superuser: Mapped[bool] = mapped_column(default=False)
    email_verified: Mapped[bool] = mapped_column(default=False)


class UserSession(Owned):
    """One log-in. An access token is worth nothing without its row here."""

    __tablename__ = "sessions"

    expires_at: Mapped[datetime]
    user_agent: Mapped[str | None] = mapped_column(sa.String(400))
