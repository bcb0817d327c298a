import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from uuid import UUID
from weakref import WeakValueDictionary

from app.core.streams.base import KEEP_SECONDS, Chunk, TextStream


class MemoryTextStreams:
    """Keeps the streams of this process in its memory."""

    outlives_its_process = False

    def __init__(self) -> None:
        self._logs: dict[UUID, TextStream] = {}
        self._absent = WeakValueDictionary[UUID, TextStream]()
        """Keeps texts that are followed here and written elsewhere, each as long as somebody follows it."""

    def __contains__(self, key: object) -> bool:
        return key in self._logs

    def open(self, key: UUID, text: str = "") -> TextStream:
        """Opens a stream for writing; those who follow the text already go on with it."""
        log = self._logs[key] = self._logs.get(key) or self._absent.pop(key, None) or TextStream()
        if len(text) > len(log.text):
            log.add(text[len(log.text) :])
        return log

    def append(self, key: UUID, text: str) -> None:
        self._logs[key].add(text)

    def close(self, key: UUID, end: str) -> None:
        self._logs[key].add("", end)
        asyncio.get_running_loop().call_later(KEEP_SECONDS, self._logs.pop, key, None)

    def follow(self, key: UUID, offset: int = 0) -> AsyncGenerator[Chunk]:
        log = self._logs.get(key) or self._absent.setdefault(key, TextStream())
        return log.follow(offset)

    def nudge(self, key: UUID) -> None:
        for logs in (self._logs, self._absent):
            if log := logs.get(key):
                log.nudge()

    async def texts(self, keys: Collection[UUID]) -> Mapping[UUID, str]:
        return {}
