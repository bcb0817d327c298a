"""Texts while they grow. The text itself is the log: a reader follows it from any offset, counted in characters."""

from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from app.core.waiters import Waiters

SILENT_SECONDS = 15.0
"""After so long without news a follower hears that there is none."""
KEEP_SECONDS = 60.0
"""How long a log that has ended can still be followed here. The stored row has it all."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a follower gets. An empty `text` without `end` only says that there is no news."""

    offset: int
    """Characters of the whole text up to and including this chunk."""
    text: str = ""
    end: str | None = None
    """What `close` was given; the last chunk of every log, and the only one that has it."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class TextStream:
    """A text that grows, and how it ended."""

    text: str = ""
    end: str | None = None
    nudges: int = 0
    _waiters: Waiters = field(default_factory=Waiters)

    def add(self, text: str, end: str | None = None) -> None:
        self.text += text
        self.end = self.end if end is None else end
        self._waiters.wake()

    def nudge(self) -> None:
        """Its followers hear at once that there is no news here: there is some elsewhere."""
        self.nudges += 1
        self._waiters.wake()

    async def follow(self, offset: int) -> AsyncGenerator[Chunk]:
        nudges = self.nudges
        while True:
            if len(self.text) > offset:
                text, offset = self.text[offset:], len(self.text)
                yield Chunk(offset, text)
            elif self.end is not None:
                yield Chunk(offset, end=self.end)
                return
            elif nudges != self.nudges or not await self._waiters.wait(SILENT_SECONDS):
                nudges = self.nudges
                yield Chunk(offset)


class TextStreams(Protocol):
    """Append-only texts, each with one writer and any number of followers, which may be in other processes.

    Nothing here waits for a network, and none of it fails with one: news may be lost, so whoever follows what is
    written elsewhere must also watch what is stored.
    """

    outlives_its_process: bool
    """Whether what was said can still be read when the process that said it was killed."""

    def __contains__(self, key: object, /) -> bool:
        """Whether this process writes it."""
        ...

    def open(self, key: UUID, text: str = "") -> TextStream: ...

    def append(self, key: UUID, text: str) -> None: ...

    def close(self, key: UUID, end: str) -> None: ...

    def follow(self, key: UUID, offset: int = 0) -> AsyncGenerator[Chunk]:
        """Everything after `offset` as it arrives; what is waiting comes as one chunk. Ends with `end`.

        An unknown log has no news.
        """
        ...

    def nudge(self, key: UUID) -> None:
        """To those who follow it here: what is stored has changed."""
        ...

    async def texts(self, keys: Collection[UUID]) -> Mapping[UUID, str]:
        """What is known of logs whose writers are gone."""
        ...
