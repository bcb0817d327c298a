"""A person at a terminal, for commands that ask."""

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

SECONDS = 30


class Terminal:
    """A command that believes it is read and typed to."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self._ours, theirs = os.openpty()
        # In a session of its own, for else it would ask at the terminal that the tests were started from.
        self._process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.screen = ""
        self._place = 0

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def wait_for(self, words: str) -> None:
        """Until they are printed, after what was waited for before."""
        while (place := self.screen.find(words, self._place)) < 0:
            assert self._read(), f"{words!r} did not appear: {self.screen}"
        self._place = place + len(words)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def interrupt(self) -> None:
        """Ctrl-C. Python notices one that comes between its prompt and its waiting only with the next line."""
        self._process.send_signal(signal.SIGINT)
        with suppress(OSError):  # it may have ended
            self.type("\n")

    def ended(self) -> int:
        """The exit status, once everything is on the screen."""
        while self._read():
            pass
        return self._process.wait(SECONDS)

    def _read(self) -> str:
        assert select.select([self._ours], [], [], SECONDS)[0], f"nothing more appeared: {self.screen}"
        try:
            text = os.read(self._ours, 4096).decode(errors="replace")
        except OSError:  # how Linux says that nobody is at the other end
            return ""
        self.screen += text
        return text
