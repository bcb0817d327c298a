from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class Process(Base):
    """A process of this application that lives, or that died without a word."""

    __tablename__ = "processes"

    is_server: Mapped[bool]
    is_worker: Mapped[bool] = mapped_column("works")
    """Whether it does what others queue."""
    last_heartbeat_at: Mapped[datetime] = mapped_column("beat_at")
    """By the database's clock."""
