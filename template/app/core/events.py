"""The text of a reply while it grows. The text itself is the log: a reader follows it from any offset."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

IDLE_SECONDS = 15.0
KEEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a follower gets. An empty `text` without `end` only says that the log is still alive."""

    offset: int
    """Characters of the whole text up to and including this chunk."""
    text: str = ""
    end: str | None = None
    """What `close` was given; the last chunk of every log, and the only one that has it."""


class Events(Protocol):
    """Append-only texts, each with one writer and any number of followers."""

    def open(self, key: UUID) -> None: ...

    async def append(self, key: UUID, text: str) -> None: ...

    async def close(self, key: UUID, end: str) -> None: ...

    def follow(self, key: UUID, offset: int = 0) -> AsyncIterator[Chunk]:
        """Everything after `offset` as it arrives; what is waiting comes as one chunk. Ends with `end`."""
        ...


@dataclass(slots=True)
class _Log:
    text: str = ""
    end: str | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def announce(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryEvents:
    """Logs of this process. A closed log stays readable for `KEEP_SECONDS`; afterwards the stored row has it all."""

    def __init__(self) -> None:
        self._logs: dict[UUID, _Log] = {}

    def open(self, key: UUID) -> None:
        self._logs[key] = _Log()

    async def append(self, key: UUID, text: str) -> None:
        log = self._logs[key]
        log.text += text
        log.announce()

    async def close(self, key: UUID, end: str) -> None:
        log = self._logs[key]
        log.end = end
        log.announce()
        asyncio.get_running_loop().call_later(KEEP_SECONDS, self._logs.pop, key, None)

    async def follow(self, key: UUID, offset: int = 0) -> AsyncIterator[Chunk]:
        log = self._logs[key]
        while True:
            if len(log.text) > offset:
                text, offset = log.text[offset:], len(log.text)
                yield Chunk(offset, text)
            elif log.end is not None:
                yield Chunk(offset, end=log.end)
                return
            elif not await _changed(log):
                yield Chunk(offset)


async def _changed(log: _Log) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(IDLE_SECONDS):
            return await log.changed.wait()
    return False
