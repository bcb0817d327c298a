from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class Process(Base):
    """Represents a process of this application that is alive, or that died without removing its row."""

    __tablename__ = "processes"

    is_server: Mapped[bool]
    works: Mapped[bool]
    """Tells whether the process is a worker, which runs queued executions."""
    beat_at: Mapped[datetime]
    """Holds the time of its last heartbeat, by the database's clock."""
