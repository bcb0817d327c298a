from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class Process(Base):
    """Represents a process of this application that is alive, or that died without removing its row."""

    __tablename__ = "processes"

    is_server: Mapped[bool]
    is_worker: Mapped[bool] = mapped_column("works")
    """Tells whether the process runs background jobs."""
    last_heartbeat_at: Mapped[datetime] = mapped_column("beat_at")
    """Holds the time of its last heartbeat, by the database's clock."""
