"""Streams an execution's events and live text, from any event on, whichever process runs it."""

import json
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core.database import Database
from app.core.errors import NotFound
from app.core.streams.base import KEEP_ALIVE_SECONDS, TextStreams
from app.core.watch import Watch, Watched, open_watch
from app.models.execution import Execution, ExecutionEvent, ExecutionStatus
from app.repositories.execution import ExecutionRepository
from app.repositories.execution_queue import ExecutionState, RunRepository, state_of
from app.services.agents.events import delta_of, event_data
from app.services.agents.notifier import ExecutionNotifier

AT_ONCE = 500
ENDS = {"execution.completed", "execution.failed", "execution.cancelled"}
AGAIN_SECONDS = 3.0
"""Sets the pause before an execution that could not be read is read again."""

ExecutionWatch = Watch[ExecutionState]

log = structlog.stdlib.get_logger("app.executions")


@dataclass(frozen=True, slots=True)
class ExecutionProgress:
    """Holds an event, and the sequence to resume after; without an event, it says that there is no news."""

    sequence: int
    type: str = ""
    data: Mapping[str, Any] | None = None
    """Holds the event as clients receive it."""
    reply_end: Mapping[str, Any] | None = None
    """Holds the last event of the reply that the execution has written, if it comes live."""


@dataclass(slots=True)
class _Position:
    sequence: int
    run_id: UUID | None = None
    offset: int = 0
    """Counts the characters that were read of the run's live stream."""
    ended: UUID | None = None
    """Identifies the run whose live stream has ended."""
    is_last: bool = False
    """Turns true with the last event of the execution."""

    def listen(self, run_id: UUID | None) -> None:
        if run_id != self.run_id:
            self.run_id, self.offset = run_id, 0


class ExecutionStream:
    """Follows executions: their events are rows, which the run or the watch announces; live text comes from the run.

    Those who wait for the same rows share one query.
    """

    def __init__(
        self,
        database: Database,
        streams: TextStreams,
        notifier: ExecutionNotifier,
        watch: ExecutionWatch,
        user_id: UUID,
    ) -> None:
        self._database = database
        self._streams = streams
        self._notifier = notifier
        self._watch = watch
        self._user_id = user_id

    @property
    def is_stopping(self) -> bool:
        """Tells whether this process stops, and so ends all streams."""
        return self._notifier.stopping

    async def find(self, id: UUID) -> Execution:
        """Returns one of the person's executions. Raises NotFound."""
        async with self._database.read() as session:
            return await ExecutionRepository(session, self._user_id).get(id)

    async def follow_run(self, execution_id: UUID, run_id: UUID) -> AsyncGenerator[ExecutionProgress]:
        """Yields all events of an execution whose first run has just begun, as long as nothing has to be read."""
        position = _Position(0)
        position.listen(run_id)
        state = ExecutionState(0, run_id, ExecutionStatus.running)
        with self._watch.watching(execution_id, state) as watched:

            def is_current() -> bool:
                known = watched.state
                return known is not None and known.run_id == run_id and not self._notifier.stopping

            async for step in self._live(execution_id, run_id, position, is_current):
                yield step
        if position.is_last:
            return
        async for step in self.follow(await self.find(execution_id), position.sequence):
            yield step

    async def follow(self, execution: Execution, sequence: int = 0) -> AsyncGenerator[ExecutionProgress]:
        """Yields all after an event, until the execution or this process ends. Leaving does not stop an execution."""
        position = _Position(sequence)
        with self._watch.watching(execution.id, state_of(execution)) as watched:
            while not (position.is_last or self._notifier.stopping):
                stored = await self._look(execution, position.sequence)
                if stored is None:
                    return  # the execution was deleted
                execution, happened = stored
                self._watch.learn(execution.id, state_of(execution))
                for event in happened:
                    position.sequence = event.sequence
                    data = event_data(execution.id, event.sequence, event)
                    yield ExecutionProgress(event.sequence, event.type, data)
                if execution.status.is_final and position.sequence >= execution.last_sequence:
                    return
                if position.sequence < execution.last_sequence:
                    continue
                position.listen(execution.run_id)
                async for step in self._wait(execution, watched, position):
                    yield step

    def _wait(
        self, execution: Execution, watched: Watched[ExecutionState], position: _Position
    ) -> AsyncGenerator[ExecutionProgress]:
        """Yields live text and signs that there is no news, until there may be new rows."""

        def is_current() -> bool:
            return watched.state == state_of(execution) and not self._notifier.stopping

        run_id = position.run_id
        if run_id is None or run_id == position.ended:
            return self._idle(execution.id, position, is_current)
        return self._live(execution.id, run_id, position, is_current)

    async def _idle(
        self, id: UUID, position: _Position, is_current: Callable[[], bool]
    ) -> AsyncGenerator[ExecutionProgress]:
        """Yields only signs that there is no news, while nobody runs the execution."""
        while is_current() and not await self._notifier.wait(id, KEEP_ALIVE_SECONDS):
            yield ExecutionProgress(position.sequence)

    async def _live(
        self, execution_id: UUID, run_id: UUID, position: _Position, is_current: Callable[[], bool]
    ) -> AsyncGenerator[ExecutionProgress]:
        text = ""
        async with aclosing(self._streams.follow(run_id, position.offset)) as chunks:
            async for chunk in chunks:
                text += chunk.text
                while "\n" in text:
                    line, rest = text.split("\n", 1)
                    item = json.loads(line)
                    if item["sequence"] - len(item.get("events", ())) > position.sequence:
                        return  # the stored events come before those that follow them
                    for step in _read(item, execution_id, position):
                        yield step
                    if position.is_last:
                        return
                    position.offset, text = position.offset + len(line) + 1, rest
                if chunk.end is not None:
                    position.ended = run_id
                if chunk.end is not None or not is_current():
                    return
                if not chunk.text:
                    yield ExecutionProgress(position.sequence)

    async def _look(self, execution: Execution, after: int) -> tuple[Execution, Sequence[ExecutionEvent]] | None:
        return await self._watch.ask((self._user_id, execution.id, after), partial(self._read, execution, after))

    async def _read(self, execution: Execution, after: int) -> tuple[Execution, Sequence[ExecutionEvent]] | None:
        """Returns None when the execution was deleted, and after a pause no events when it cannot be read now."""
        try:
            async with self._database.read() as session:
                executions = ExecutionRepository(session, self._user_id)
                current = await executions.get(execution.id)
                return current, await executions.events(current, after, AT_ONCE)
        except NotFound:
            return None
        except SQLAlchemyError as error:
            log.warning("execution read failed", execution_id=str(execution.id), error=type(error).__name__)
            await self._notifier.wait(execution.id, AGAIN_SECONDS)
            return execution, []


def _read(item: Mapping[str, Any], execution_id: UUID, position: _Position) -> Iterator[ExecutionProgress]:
    """Yields what comes after a position, and moves it there."""
    if "events" not in item:
        if item["sequence"] == position.sequence:
            yield ExecutionProgress(position.sequence, *delta_of(execution_id, **item))
        return
    for event in item["events"]:
        if event["sequence"] > position.sequence:
            position.sequence, position.is_last = event["sequence"], event["type"] in ENDS
            reply_end = item.get("reply_end") if position.is_last else None
            yield ExecutionProgress(position.sequence, event["type"], event, reply_end)


async def _states(database: Database, ids: Collection[UUID]) -> Mapping[UUID, ExecutionState]:
    async with database.read() as session:
        return await RunRepository(session).states(ids)


@asynccontextmanager
async def open_execution_watch(
    database: Database, streams: TextStreams, notifier: ExecutionNotifier
) -> AsyncGenerator[ExecutionWatch]:
    """Opens the watch of the executions that are followed in this process, which wakes their followers."""

    def notify(id: UUID, before: ExecutionState | None) -> None:
        notifier.notify(id)
        if before and before.run_id:
            streams.nudge(before.run_id)

    watch = Watch(partial(_states, database), notify)
    notifier.at_stop.append(watch.notify_all)
    async with open_watch(watch):
        yield watch
