"""Defines streams of texts that grow. A reader follows a text from any offset, counted in characters."""

from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from app.core.waiters import Waiters

KEEP_ALIVE_SECONDS = 15.0
"""Limits the silence: after so long without news a follower gets an empty chunk, and sends its client a keep-alive."""
KEEP_SECONDS = 60.0
"""Limits how long a stream that has ended can still be followed here. The stored row has all of it."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Carries the news to a follower. An empty `text` without `end` only says that there is none."""

    offset: int
    """Counts the characters of the whole text up to and including this chunk."""
    text: str = ""
    end: str | None = None
    """Holds what `close` was given, in the last chunk of every stream and in no other."""
    whole: str = field(default="", repr=False, compare=False)
    """Holds the whole text up to and including this chunk, if it brings some."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class TextStream:
    """Holds a text that grows, and how it ended."""

    text: str = ""
    end: str | None = None
    nudges: int = 0
    _waiters: Waiters = field(default_factory=Waiters)

    def add(self, text: str, end: str | None = None) -> None:
        self.text += text
        self.end = self.end if end is None else end
        self._waiters.wake()

    def nudge(self) -> None:
        """Sends its followers an empty chunk at once, since there is news in the stored row."""
        self.nudges += 1
        self._waiters.wake()

    async def follow(self, offset: int) -> AsyncGenerator[Chunk]:
        nudges = self.nudges
        while True:
            if len(self.text) > offset:
                text, offset = self.text[offset:], len(self.text)
                yield Chunk(offset, text, whole=self.text)
            elif self.end is not None:
                yield Chunk(offset, end=self.end)
                return
            elif nudges != self.nudges or not await self._waiters.wait(KEEP_ALIVE_SECONDS):
                nudges = self.nudges
                yield Chunk(offset)


class TextStreams(Protocol):
    """Keeps append-only texts, each with one writer and any number of followers, which may be in other processes.

    Nothing here waits for a network or fails with it. News may be lost, so whoever follows a text of another process
    must also watch the stored row.
    """

    outlives_its_process: bool
    """Tells whether a text can still be read after the process that wrote it was killed."""

    def __contains__(self, key: object, /) -> bool:
        """Tells whether this process writes the text."""
        ...

    def open(self, key: UUID, text: str = "") -> TextStream: ...

    def append(self, key: UUID, text: str) -> None: ...

    def close(self, key: UUID, end: str) -> None: ...

    def follow(self, key: UUID, offset: int = 0) -> AsyncGenerator[Chunk]:
        """Yields the text after `offset` as it arrives, with what is there already in one chunk. Ends with `end`.

        Nothing arrives for a text that this process does not know.
        """
        ...

    def nudge(self, key: UUID) -> None:
        """Tells those who follow the text in this process that the stored row has changed."""
        ...

    async def texts(self, keys: Collection[UUID]) -> Mapping[UUID, str]:
        """Returns what is known of texts whose writers are gone."""
        ...
