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


class Shutdown:
    """Begins when the process is told to stop, and else when the first of its parts has to end."""

    def __init__(self, seconds: float) -> None:
        self.requested = asyncio.Event()
        self._seconds = seconds
        self._deadline = 0.0

    def request(self) -> None:
        """Begins the shutdown, once."""
        if not self.requested.is_set():
            self._deadline = monotonic() + self._seconds
            self.requested.set()

    def remaining(self) -> float:
        """Returns the seconds that are left, of a shutdown that begins at the latest now."""
        self.request()
        return max(self._deadline - monotonic(), 0)


@asynccontextmanager
async def open_shutdown(seconds: float, *, is_server: bool) -> AsyncGenerator[Shutdown]:
    """A server ends its parts only when its readers have left, who may be waiting for just these parts to end."""
    shutdown = Shutdown(seconds)
    if not is_server:
        yield shutdown
        return
    loop = asyncio.get_running_loop()
    with _signals_noted(lambda: loop.call_soon_threadsafe(shutdown.request)):
        yield shutdown


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
