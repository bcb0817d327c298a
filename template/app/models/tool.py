from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class Policy(StrEnum):
    """Whether an agent may call a tool."""

    allow = "allow"
    ask = "ask"
    """A person must approve each call."""
    deny = "deny"


class Tool(Base):
    """What the code offers, under an id that is the same for every process. Shared by everyone."""

    __tablename__ = "tools"

    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    description: Mapped[str] = mapped_column(sa.Text)
    input_schema: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    policy: Mapped[Policy]
    """Unless an agent's grant says otherwise."""
    available: Mapped[bool] = mapped_column(default=True)
    """False once the code offers it no longer; what was granted stays, and is not told to models."""
