"""Divides the slots of a process among queues, and those of each queue among people."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.core.jobs import Job
from app.repositories.job import ClaimedJob, QueuedJob, QueueSlice

SHARE_KEPT_FREE = 4
"""Divides the slots of a queue: the jobs of one person leave one of so many parts of them free for others."""


@dataclass(frozen=True, slots=True)
class FreeSlots:
    """Represents the free slots of one queue, of which each person may hold `most`."""

    queue: str
    number: int
    most: int
    held: Counter[UUID]

    @property
    def full_users(self) -> Collection[UUID]:
        return [user_id for user_id, number in self.held.items() if number >= self.most]

    def to_slice(self, jobs: Iterable[Job], only_user: UUID | None = None) -> QueueSlice:
        """Returns which jobs of the queue can run in these slots."""
        names = [job.name for job in jobs if job.queue == self.queue]
        return QueueSlice(self.queue, names, self.full_users, self.number, only_user)

    def choose(self, queued: Iterable[QueuedJob]) -> Sequence[UUID]:
        """Returns the ids of the jobs of this queue that can run without anybody holding more than their share."""
        held, ids = self.held.copy(), list[UUID]()
        for job in queued:
            if job.queue != self.queue:
                continue
            if job.user_id is not None:
                held[job.user_id] += 1
                if held[job.user_id] > self.most:
                    continue
            ids.append(job.id)
        return ids

    def may_leave(self, queued: Iterable[QueuedJob]) -> bool:
        """Tells whether other jobs of this queue may be waiting, beside those that were found."""
        return bool(self.full_users) or sum(job.queue == self.queue for job in queued) >= self.number


def find_free_slots(
    slots: Mapping[str, int], jobs: Mapping[str, Job], running: Collection[ClaimedJob]
) -> Sequence[FreeSlots]:
    """Returns what is free of the slots of each queue."""
    found: list[FreeSlots] = []
    for queue, number in slots.items():
        of = [job.user_id for job in running if jobs[job.name].queue == queue]
        held = Counter(user_id for user_id in of if user_id)
        found.append(FreeSlots(queue, number - len(of), number - number // SHARE_KEPT_FREE, held))
    return found
