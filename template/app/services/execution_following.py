"""What happens in an execution, from any of its events on, whichever process runs it."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core.database import Database
from app.core.errors import NotFound
from app.core.events import Events
from app.models.execution import Execution, ExecutionEvent
from app.repositories.execution import ExecutionRepository
from app.services.execution_log import told, told_delta
from app.services.signals import Signals

AT_ONCE = 500
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0
"""Seconds between two looks at an execution that nobody runs."""

log = structlog.stdlib.get_logger("app.executions")


@dataclass(frozen=True, slots=True)
class Progress:
    """An event as JSON, and the sequence to come back with. No event: there is no news."""

    sequence: int
    type: str = ""
    event: str | None = None


@dataclass(slots=True)
class _Position:
    sequence: int
    run_id: UUID | None = None
    offset: int = 0
    """In what the run says."""
    pause: float = FIRST_PAUSE

    def listen(self, run_id: UUID | None) -> None:
        if run_id != self.run_id:
            self.run_id, self.offset = run_id, 0


class ExecutionFollowing:
    """Events are rows; that there are new ones, and what a model is saying, comes from the run."""

    def __init__(self, database: Database, events: Events, signals: Signals, user_id: UUID) -> None:
        self._database = database
        self._events = events
        self._signals = signals
        self._user_id = user_id

    async def find(self, id: UUID) -> Execution:
        """Raises NotFound."""
        async with self._database.read() as session:
            return await ExecutionRepository(session, self._user_id).get(id)

    async def follow(self, execution: Execution, sequence: int = 0) -> AsyncGenerator[Progress]:
        """Everything after an event, to the end of the execution, or of this process. Leaving does not stop it."""
        position = _Position(sequence)
        while not self._signals.stopping:
            stored = await self._read(execution, position.sequence)
            if stored is None:
                return  # it is gone, with the person or the agent
            execution, happened = stored
            for event in happened:
                position.sequence, position.pause = event.sequence, FIRST_PAUSE
                yield Progress(event.sequence, event.type, told(event))
            if execution.status.is_final and position.sequence >= execution.last_sequence:
                return
            if len(happened) == AT_ONCE:
                continue
            position.listen(execution.run_id)
            async for step in self._live(execution.id, position):
                yield step

    async def _live(self, execution_id: UUID, position: _Position) -> AsyncGenerator[Progress]:
        """Until there may be new rows."""
        if position.run_id is None:
            await self._signals.wait(execution_id, position.pause)
            position.pause = min(2 * position.pause, LONGEST_PAUSE)
            yield Progress(position.sequence)
            return
        text = ""
        async with aclosing(self._events.follow(position.run_id, position.offset)) as chunks:
            async for chunk in chunks:
                text += chunk.text
                while "\n" in text:
                    line, rest = text.split("\n", 1)
                    said = json.loads(line)
                    if said["sequence"] > position.sequence:
                        return  # what is stored comes before what is said after it
                    if "text" in said and said["sequence"] == position.sequence:
                        yield Progress(position.sequence, "model.delta", told_delta(execution_id, **said))
                    position.offset, text = position.offset + len(line) + 1, rest
                if chunk.end is not None or not chunk.text:
                    yield Progress(position.sequence)
                    return

    async def _read(self, execution: Execution, after: int) -> tuple[Execution, Sequence[ExecutionEvent]] | None:
        """None when it does not exist any more. When it cannot be read now, there is no news."""
        try:
            async with self._database.read() as session:
                executions = ExecutionRepository(session, self._user_id)
                current = await executions.get(execution.id)
                return current, await executions.events(current, after, AT_ONCE)
        except NotFound:
            return None
        except SQLAlchemyError as error:
            log.warning("execution not read", execution_id=str(execution.id), error=type(error).__name__)
            await self._signals.wait(execution.id, LONGEST_PAUSE)
            return execution, []
