from datetime import datetime

from sqlalchemy.orm import Mapped

from app.models.base import Base


class Process(Base):
    """A process of this application that lives, or that died without a word."""

    __tablename__ = "processes"

    is_server: Mapped[bool]
    works: Mapped[bool]
    """Whether it does what others queue."""
    beat_at: Mapped[datetime]
    """By the database's clock."""
