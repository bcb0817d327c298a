"""How long a process that is told to stop may still take: all of its parts together, and not one after another."""

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""What a process is told to stop by."""


class Grace:
    """Begins when the process is told to stop, and else when the first of its parts has to end."""

    def __init__(self, seconds: float) -> None:
        self.begun = asyncio.Event()
        self._seconds = seconds
        self._until = 0.0

    def begin(self) -> None:
        if not self.begun.is_set():
            self._until = monotonic() + self._seconds
            self.begun.set()

    def rest(self) -> float:
        """Seconds that are left of it."""
        self.begin()
        return max(self._until - monotonic(), 0)


@asynccontextmanager
async def open_grace(seconds: float, *, is_server: bool) -> AsyncGenerator[Grace]:
    """A server ends its parts only when its readers have left, who may be waiting for just these parts to end."""
    grace = Grace(seconds)
    if not is_server:
        yield grace
        return
    loop = asyncio.get_running_loop()
    with _signals_noted(lambda: loop.call_soon_threadsafe(grace.begin)):
        yield grace


@contextmanager
def _signals_noted(note: Callable[[], object]) -> Generator[None]:
    """Whatever server this is has handlers of its own, which go on to do their work."""
    handlers: dict[int, Handler] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        note()
        handlers[number](number, frame)

    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
