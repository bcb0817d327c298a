from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class Policy(StrEnum):
    """Decides whether an agent may call a tool: always, with a person's approval, or never."""

    allow = "allow"
    ask = "ask"
    """Requires that a person approves each call."""
    deny = "deny"


class Tool(Base):
    """Describes a tool that the code offers, under an id that is the same for every process. All users share it."""

    __tablename__ = "tools"

    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    description: Mapped[str] = mapped_column(sa.Text)
    input_schema: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    policy: Mapped[Policy]
    """Applies unless an agent's grant says otherwise."""
    available: Mapped[bool] = mapped_column(default=True)
    """Becomes False once the code no longer offers the tool; its grants stay, but models are not told of it."""
