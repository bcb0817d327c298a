from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base

QUEUED, SCHEDULED = sa.text("status = 'queued'"), sa.text("status = 'scheduled'")
RUNNING, FAILED = sa.text("status = 'running'"), sa.text("status = 'failed'")
WAITING = sa.text("status IN ('queued', 'scheduled')")
"""Selects jobs by their status, as those above do. Queries repeat it literally, else databases use no partial index."""


class JobStatus(StrEnum):
    scheduled = "scheduled"
    """Waits for its time, `run_at`."""
    queued = "queued"
    running = "running"
    failed = "failed"
    """Has used up its attempts, and is kept for a while. A job that succeeded has no row any more."""


class BackgroundJob(Base):
    """Stores one job that is to be run, by whichever worker claims it. Each claim counts an attempt, and what a worker
    stores afterwards counts only while the attempt is still the one that it claimed."""

    __tablename__ = "background_jobs"
    __table_args__ = (
        sa.Index(
            "ix_background_jobs_queued",
            "queue",
            "priority",
            "turn",
            "id",
            sqlite_where=QUEUED,
            postgresql_where=QUEUED,
        ),
        sa.Index("ix_background_jobs_scheduled", "run_at", sqlite_where=SCHEDULED, postgresql_where=SCHEDULED),
        sa.Index("ix_background_jobs_running", "process_id", sqlite_where=RUNNING, postgresql_where=RUNNING),
        sa.Index("ix_background_jobs_failed", "failed_at", sqlite_where=FAILED, postgresql_where=FAILED),
        sa.Index("ix_background_jobs_key", "key", unique=True, sqlite_where=WAITING, postgresql_where=WAITING),
        sa.Index("ix_background_jobs_user_id_turn", "user_id", "turn"),
    )

    user_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    """Identifies the person whose turn it takes, and with whom it is deleted."""
    name: Mapped[str] = mapped_column(sa.String(100))
    arguments: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    queue: Mapped[str] = mapped_column(sa.String(32))
    status: Mapped[JobStatus]
    priority: Mapped[int] = mapped_column(sa.SmallInteger)
    """Orders the jobs of a queue: those with a lower number first."""
    turn: Mapped[int] = mapped_column(sa.BigInteger)
    """Orders the jobs of one priority, so that people take turns."""
    key: Mapped[str | None] = mapped_column(sa.String(200))
    """Names what the job is about; at most one job waits for each key."""
    run_at: Mapped[datetime | None]
    """Holds the time, by the database's clock, before which a scheduled job does not run."""
    attempts: Mapped[int] = mapped_column(default=0)
    process_id: Mapped[UUID | None]
    """Identifies the process that runs it."""
    error: Mapped[str | None] = mapped_column(sa.String(500))
    """Tells why the last attempt failed: in words where the reason is known, else by the type of what was raised."""
    failed_at: Mapped[datetime | None]
