"""Polls rows that are followed in this process, all together: more followers of a row cost the database nothing."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Container, Generator, Hashable, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar
from uuid import UUID

from app.core.periodic import repeat

TURN_SECONDS = 0.1
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0
"""Limits the seconds between two reads of a row, which double as long as it does not change."""
AT_ONCE = 1_000
"""Limits the rows that one statement reads."""

State = TypeVar("State")
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Watched(Generic[State]):
    """Holds what is known of a row, whoever read it last."""

    state: State | None
    """Becomes None when the row is gone."""
    first_pause: float
    followers: int = 0
    pause: float = 0.0
    due: float = 0.0

    def rest(self) -> None:
        """Schedules the next read; rows with the same pause are due together."""
        self.pause = min(max(2 * self.pause, self.first_pause), LONGEST_PAUSE)
        self.due = (monotonic() // self.pause + 1) * self.pause


class Watch(Generic[State]):
    def __init__(
        self,
        look: Callable[[Collection[UUID]], Awaitable[Mapping[UUID, State]]],
        notify: Callable[[UUID, State | None], None],
        *,
        first_pause: float = FIRST_PAUSE,
        left_out: Container[UUID] = (),
    ) -> None:
        """Calls `notify` with the id of a changed row and its previous state. Rows in `left_out` are not polled."""
        self._look = look
        self._notify = notify
        self._first_pause = first_pause
        self._left_out = left_out
        self._watched: dict[UUID, Watched[State]] = {}
        self._asked: dict[Hashable, asyncio.Task[Any]] = {}

    @contextmanager
    def watching(self, id: UUID, state: State) -> Generator[Watched[State]]:
        """Watches a row for the length of the block; `state` is what the follower knows of it."""
        watched = self._watched.setdefault(id, Watched(state, self._first_pause))
        watched.followers += 1
        try:
            yield watched
        finally:
            watched.followers -= 1
            if not watched.followers:
                del self._watched[id]

    async def turn(self) -> None:
        """Reads the rows that are due, and tells the followers of those that changed."""
        now = monotonic()
        due = [id for id, watched in self._watched.items() if watched.due <= now and id not in self._left_out]
        for start in range(0, len(due), AT_ONCE):
            ids = due[start : start + AT_ONCE]
            found = await self._look(ids)
            for id in self._watched.keys() & ids:
                self.learn(id, found.get(id))

    def learn(self, id: UUID, state: State | None) -> None:
        """Records the state of a watched row, whoever read it, and tells all its followers if it changed."""
        watched = self._watched[id]
        before, watched.state = watched.state, state
        if state != before:
            watched.pause = 0.0
            self._notify(id, before)
        watched.rest()

    def notify_all(self) -> None:
        """Tells the followers of every row, for something that concerns them all."""
        for id, watched in list(self._watched.items()):
            self._notify(id, watched.state)

    async def ask(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """Reads something once for all who ask before the read begins; later ones start a new one, with newer data."""
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._read(key, read))
        return await asyncio.shield(task)

    async def _read(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        del self._asked[key]
        return await read()


@asynccontextmanager
async def open_watch(watch: Watch[State]) -> AsyncGenerator[Watch[State]]:
    async with repeat("watch", watch.turn, TURN_SECONDS):
        yield watch
