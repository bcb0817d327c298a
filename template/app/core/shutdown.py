"""Limits how long a process that is told to stop may take, for all of its parts together and not for each."""

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""Lists the signals that tell a process to stop."""


class Shutdown:
    """Begins when the process is told to stop, or else when the first of its parts has to end."""

    def __init__(self, seconds: float) -> None:
        self.requested = asyncio.Event()
        self._seconds = seconds
        self._deadline = 0.0

    def request(self) -> None:
        """Begins the shutdown, once."""
        if not self.requested.is_set():
            self._deadline = monotonic() + self._seconds
            self.requested.set()

    @property
    def is_over(self) -> bool:
        """Tells whether the time of the shutdown has passed."""
        return self.requested.is_set() and monotonic() >= self._deadline

    def remaining(self) -> float:
        """Returns the seconds that are left of the shutdown, which begins now if it has not begun."""
        self.request()
        return max(self._deadline - monotonic(), 0)


@asynccontextmanager
async def open_shutdown(seconds: float, *, is_server: bool) -> AsyncGenerator[Shutdown]:
    """Begins a server's shutdown at the signal: its lifespan ends only after its clients left, who may wait for it."""
    shutdown = Shutdown(seconds)
    if not is_server:
        yield shutdown
        return
    loop = asyncio.get_running_loop()
    with _signals_noted(lambda: loop.call_soon_threadsafe(shutdown.request)):
        yield shutdown


@contextmanager
def _signals_noted(note: Callable[[], object]) -> Generator[None]:
    """Calls `note` at each stopping signal, then the handler that the server had installed."""
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
