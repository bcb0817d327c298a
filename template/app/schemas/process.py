from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from app.models.job import JobStatus
from app.schemas.base import Read


class ProcessRead(Read):
    id: UUID
    is_server: bool
    is_worker: bool
    """Tells whether the process runs background jobs."""
    is_alive: bool
    """Tells whether its last heartbeat is recent. One that died is listed for ten minutes."""
    created_at: datetime
    last_heartbeat_at: datetime


class JobCounts(Read):
    name: str
    is_known: bool
    """Tells whether this version of the application can run such jobs."""
    counts: Mapping[JobStatus, int]
    """Counts the jobs by their status, where there are any; those that succeeded are gone."""


class FailedJob(Read):
    id: UUID
    name: str
    attempts: int
    error: str | None
    failed_at: datetime


class ProcessOverview(Read):
    processes: Sequence[ProcessRead]
    """Lists processes from the oldest on."""
    jobs: Sequence[JobCounts]
    failed_jobs: Sequence[FailedJob]
    """Lists the newest jobs that failed for good."""
