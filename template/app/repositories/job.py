"""Stores background jobs and gives each to one worker at a time."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from sqlalchemy import ColumnElement, Select, and_, delete, func, or_, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.announcements import announce
from app.core.clock import seconds_ago
from app.core.database import AUTOCOMMIT
from app.core.errors import AccountGone
from app.core.jobs import Job, find_job
from app.models.job import FAILED, QUEUED, RUNNING, SCHEDULED, WAITING, BackgroundJob, JobStatus
from app.repositories.base import insert, lock_user
from app.repositories.process import of_dead_process

CHANNEL = "background_jobs"
"""Names the channel on which jobs that can run at once are announced."""
AT_ONCE = 1_000
MAX_PRIORITY, MAX_KEY_CHARACTERS, MAX_ERROR_CHARACTERS = 1_000, 200, 500

_NEXT_FIRST = ("priority", "turn", "id")
_TO_QUEUED: dict[str, Any] = {"status": JobStatus.queued, "run_at": None, "process_id": None}


@dataclass(frozen=True, slots=True)
class QueueSlice:
    """Says which jobs of a queue are wanted: at most `limit`, of known names, without those of some people.

    With `only_user`, they are those of this person.
    """

    queue: str
    names: Collection[str]
    without_users: Collection[UUID]
    limit: int
    only_user: UUID | None = None


@dataclass(frozen=True, slots=True)
class QueuedJob:
    id: UUID
    user_id: UUID | None
    queue: str


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """Represents a job that one process may run; `attempt` proves it when the process stores how that ended."""

    id: UUID
    name: str
    arguments: Mapping[str, Any]
    user_id: UUID | None
    attempt: int


class JobRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def enqueue(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        user_id: UUID | None = None,
        run_at: datetime | None = None,
        priority: int = 0,
        key: str | None = None,
    ) -> None:
        """Stores a job, which runs once this transaction is committed, and not before `run_at`.

        People take turns: however many jobs of one person wait, each other person's next one waits for a few. Lower
        priorities go first. While a job with the same `key` waits, no other is stored; without `run_at`, that one then
        runs at once.

        Raises LookupError for a job that nobody defined, TypeError for arguments that it does not take, ValueError for
        other values that cannot be stored and for jobs that repeat by themselves, and AccountGone.
        """
        job = find_job(name)
        _check(self._session, job, run_at, priority, key)
        if user_id and not await lock_user(self._session, user_id):
            raise AccountGone
        values: dict[str, Any] = {
            "name": name,
            "arguments": job.dump_arguments(arguments),
            "queue": job.queue,
            "user_id": user_id,
            "status": JobStatus.queued if run_at is None else JobStatus.scheduled,
            "run_at": run_at,
            "priority": priority,
            "turn": _next_turn(job.queue, priority, user_id),
            "key": key,
        }
        statement = insert(self._session, BackgroundJob).values(values)
        if key and run_at is None:
            at_once = {"status": JobStatus.queued, "run_at": None}
            statement = statement.on_conflict_do_update(index_elements=["key"], index_where=WAITING, set_=at_once)
        else:
            statement = statement.on_conflict_do_nothing()
        await self._session.execute(statement)
        if run_at is None:
            announce(self._session, CHANNEL)

    async def schedule_recurring(self, recurring: Iterable[Job], seconds: float) -> None:
        """Schedules jobs that repeat and have no row yet, in so many seconds; each has one row for good."""
        rows: list[dict[str, Any]] = [
            {
                "id": uuid5(NAMESPACE_OID, job.name),
                "name": job.name,
                "arguments": {},
                "queue": job.queue,
                "status": JobStatus.scheduled,
                "run_at": seconds_ago(-min(seconds, job.every or seconds)),
                "priority": 0,
                "turn": 0,
            }
            for job in recurring
        ]
        for row in rows:
            await self._session.execute(insert(self._session, BackgroundJob).values(row).on_conflict_do_nothing())

    async def move_to_queues(self, known: Iterable[Job]) -> None:
        """Moves waiting jobs to the queues that their functions name now."""
        for job in known:
            moved = (WAITING, BackgroundJob.name == job.name, BackgroundJob.queue != job.queue)
            await self._session.execute(update(BackgroundJob).where(*moved).values(queue=job.queue))

    async def list_returnable(
        self, process_id: UUID, running: Collection[UUID], *, also_of_dead: bool
    ) -> Sequence[UUID]:
        """Lists jobs that can be queued again: those whose time has come, and those that no process runs any more."""
        due = select(BackgroundJob.id).where(_due()).limit(AT_ONCE)
        lost = select(BackgroundJob.id).where(_lost(process_id, running, also_of_dead=also_of_dead)).limit(AT_ONCE)
        return (await self._session.scalars(union_all(due.subquery().select(), lost.subquery().select()))).all()

    async def return_to_queue(
        self, ids: Collection[UUID], process_id: UUID, running: Collection[UUID], *, also_of_dead: bool
    ) -> Sequence[tuple[UUID, str]]:
        """Queues those of these jobs that are still due or lost; returns the ids and names of those that were lost."""
        still = or_(_due(), _lost(process_id, running, also_of_dead=also_of_dead))
        free = select(BackgroundJob).where(BackgroundJob.id.in_(ids), still).with_for_update(skip_locked=True)
        found = (await self._session.scalars(free.order_by(BackgroundJob.run_at, BackgroundJob.id))).all()
        lost = [(job.id, job.name) for job in found if job.process_id]
        turns: dict[tuple[str, int, UUID | None], int] = {}
        for job in found:
            if job.user_id and not job.process_id:  # its time has come: it takes its turn as if it were added now
                of = (job.queue, job.priority, job.user_id)
                turns[of] = turns[of] + 1 if of in turns else await self._session.scalar(select(_next_turn(*of))) or 0
                job.turn = turns[of]
            job.status, job.run_at, job.process_id = JobStatus.queued, None, None
        return lost

    async def list_queued(self, slices: Iterable[QueueSlice]) -> Sequence[QueuedJob]:
        """Lists the jobs that are to run next of each of these slices of queues."""
        found = union_all(*(_next_of(wanted).subquery().select() for wanted in slices)).subquery()
        ordered = select(found.c.id, found.c.user_id, found.c.queue).order_by(*(found.c[by] for by in _NEXT_FIRST))
        return [QueuedJob(*row) for row in await self._session.execute(ordered)]

    async def claim(self, ids: Collection[UUID], process_id: UUID) -> Sequence[ClaimedJob]:
        """Claims those of these jobs that nobody else has claimed meanwhile."""
        free = select(BackgroundJob.id).where(QUEUED, BackgroundJob.id.in_(ids)).with_for_update(skip_locked=True)
        claimed = {
            "status": JobStatus.running,
            "process_id": process_id,
            "attempts": BackgroundJob.attempts + 1,
            "key": None,  # from now on, another job may wait for what happens after this one has begun
        }
        columns = (BackgroundJob.id, BackgroundJob.name, BackgroundJob.arguments, BackgroundJob.user_id)
        found = await self._session.execute(
            update(BackgroundJob)
            .where(BackgroundJob.id.in_(free))
            .values(claimed)
            .returning(*columns, BackgroundJob.attempts)
        )
        return [ClaimedJob(*row) for row in found]

    async def delete_claimed(self, job: ClaimedJob, process_id: UUID) -> bool:
        deleted = delete(BackgroundJob).where(_claimed(job, process_id)).returning(BackgroundJob.id)
        return await self._session.scalar(deleted) is not None

    async def reschedule(
        self, job: ClaimedJob, process_id: UUID, seconds: float, *, attempts: int, error: str | None = None
    ) -> bool:
        """Schedules a claimed job again in so many seconds, with as many attempts counted."""
        values = {
            "status": JobStatus.scheduled,
            "run_at": seconds_ago(-seconds),
            "process_id": None,
            "attempts": attempts,
            "error": error and error[:MAX_ERROR_CHARACTERS],
        }
        return await self._end(job, process_id, values)

    async def release(self, job: ClaimedJob, process_id: UUID) -> bool:
        """Puts a claimed job back into the queue, as if it had not been claimed."""
        announce(self._session, CHANNEL)
        return await self._end(job, process_id, {**_TO_QUEUED, "attempts": job.attempt - 1})

    async def fail(self, job: ClaimedJob, process_id: UUID, error: str) -> bool:
        """Keeps a claimed job as failed."""
        error = error[:MAX_ERROR_CHARACTERS]
        values = {"status": JobStatus.failed, "process_id": None, "error": error, "failed_at": seconds_ago(0)}
        return await self._end(job, process_id, values)

    async def _end(self, job: ClaimedJob, process_id: UUID, values: Mapping[str, Any]) -> bool:
        """Stores how an attempt ended. Returns False when another process has taken the job over."""
        ended = update(BackgroundJob).where(_claimed(job, process_id)).values(**values).returning(BackgroundJob.id)
        return await self._session.scalar(ended) is not None

    async def find_waiting_keys(self, keys: Collection[str]) -> Collection[str]:
        """Returns those of these keys for which a job waits."""
        found = select(BackgroundJob.key).where(WAITING, BackgroundJob.key.in_(keys))
        return {key for key in await self._session.scalars(found) if key}

    async def count_by_name(self) -> Mapping[str, Mapping[JobStatus, int]]:
        """Counts jobs by name and status."""
        columns = (BackgroundJob.name, BackgroundJob.status)
        counts = defaultdict[str, dict[JobStatus, int]](dict)
        for name, status, number in await self._session.execute(select(*columns, func.count()).group_by(*columns)):
            counts[name][status] = number
        return counts

    async def delete_of_name(self, name: str) -> int:
        """Deletes the jobs of a name that do not run; returns how many."""
        deleted = delete(BackgroundJob).where(BackgroundJob.name == name, BackgroundJob.status != JobStatus.running)
        return len((await self._session.scalars(deleted.returning(BackgroundJob.id))).all())

    async def list_failed(self, limit: int) -> Sequence[BackgroundJob]:
        """Lists jobs that failed, newest first."""
        found = select(BackgroundJob).where(FAILED).order_by(BackgroundJob.failed_at.desc()).limit(limit)
        return (await self._session.scalars(found)).all()

    async def retry_failed(self, ids: Collection[UUID] | None) -> Sequence[UUID]:
        """Queues those of these jobs that failed, or all that failed, as new ones; returns their ids."""
        again = {**_TO_QUEUED, "attempts": 0, "error": None, "failed_at": None}
        of = FAILED if ids is None else and_(FAILED, BackgroundJob.id.in_(ids))
        retried = update(BackgroundJob).where(of).values(again).returning(BackgroundJob.id)
        announce(self._session, CHANNEL)
        return (await self._session.scalars(retried)).all()

    async def delete_failed(self, seconds: float) -> None:
        """Deletes jobs that failed so many seconds ago or earlier."""
        await self._session.execute(delete(BackgroundJob).where(FAILED, BackgroundJob.failed_at < seconds_ago(seconds)))


def _check(session: AsyncSession, job: Job, run_at: datetime | None, priority: int, key: str | None) -> None:
    """Raises ValueError for what cannot be added."""
    flaws = {
        "it repeats by itself, and is not added": job.every is not None,
        "add it in a transaction, which `database.write()` opens": AUTOCOMMIT in session.info,
        "run_at must have a time zone": run_at is not None and run_at.utcoffset() is None,
        f"the priority must be a number from {-MAX_PRIORITY} to {MAX_PRIORITY}": abs(priority) > MAX_PRIORITY,
        f"a key has at most {MAX_KEY_CHARACTERS} characters": len(key or "") > MAX_KEY_CHARACTERS,
    }
    for flaw, is_there in flaws.items():
        if is_there:
            raise ValueError(f"The job {job.name}: {flaw}.")


def _next_turn(queue: str, priority: int, user_id: UUID | None) -> ColumnElement[int]:
    """Returns the turn of a new job: one after the job that is next in the queue, and after the person's last one."""
    of = (QUEUED, BackgroundJob.queue == queue, BackgroundJob.priority == priority)
    next_one = select(func.min(BackgroundJob.turn).label("turn")).where(*of)
    own_last = select(func.max(BackgroundJob.turn)).where(*of, BackgroundJob.user_id == user_id)
    both = (union_all(next_one, own_last) if user_id else next_one).subquery()
    return select(func.coalesce(func.max(both.c.turn), 0) + 1).scalar_subquery()


def _next_of(wanted: QueueSlice) -> Select[*tuple[Any, ...]]:
    of = (QUEUED, BackgroundJob.queue == wanted.queue, BackgroundJob.name.in_(wanted.names))
    by = [getattr(BackgroundJob, name) for name in _NEXT_FIRST]
    found = select(BackgroundJob.user_id, BackgroundJob.queue, *by).where(*of)
    if wanted.without_users:
        others = or_(BackgroundJob.user_id.is_(None), BackgroundJob.user_id.not_in(wanted.without_users))
        found = found.where(others)
    if wanted.only_user is not None:
        found = found.where(BackgroundJob.user_id == wanted.only_user)
    return found.order_by(*by).limit(wanted.limit)


def _claimed(job: ClaimedJob, process_id: UUID) -> ColumnElement[bool]:
    """Selects a job only as long as this process runs this attempt of it."""
    return and_(
        RUNNING,
        BackgroundJob.id == job.id,
        BackgroundJob.process_id == process_id,
        BackgroundJob.attempts == job.attempt,
    )


def _due() -> ColumnElement[bool]:
    return and_(SCHEDULED, BackgroundJob.run_at <= seconds_ago(0))


def _lost(process_id: UUID, running: Collection[UUID], *, also_of_dead: bool) -> ColumnElement[bool]:
    """Selects jobs of a process that it does not run, as when only the answer to its claim was lost, and those of dead
    processes."""
    lost = and_(BackgroundJob.process_id == process_id, BackgroundJob.id.not_in(running))
    if also_of_dead:
        lost = or_(lost, of_dead_process(BackgroundJob.process_id, process_id))
    return and_(RUNNING, lost)
