"""Simulates a user at a terminal, for commands that ask questions."""

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
    """Runs a command whose input and output are a terminal."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self._ours, theirs = os.openpty()
        # In a session of its own: otherwise it would ask at the terminal from which the tests were started.
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
        """Waits until the words are printed after those of the last call."""
        while (place := self.screen.find(words, self._place)) < 0:
            assert self._read(), f"{words!r} did not appear: {self.screen}"
        self._place = place + len(words)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def interrupt(self) -> None:
        """Sends Ctrl-C, and a new line: Python notices one between its prompt and its read only with the next line."""
        self._process.send_signal(signal.SIGINT)
        with suppress(OSError):  # the process may have ended
            self.type("\n")

    def kill_all(self) -> None:
        """Kills the command and all that it started."""
        os.killpg(self._process.pid, signal.SIGKILL)

    def ended(self) -> int:
        """Waits for the end of the command, reads the rest of its output, and returns its exit status."""
        while self._read():
            pass
        return self._process.wait(SECONDS)

    def _read(self) -> str:
        assert select.select([self._ours], [], [], SECONDS)[0], f"nothing more appeared: {self.screen}"
        try:
            text = os.read(self._ours, 4096).decode(errors="replace")
        except OSError:  # Linux reports so that the other end is closed
            return ""
        self.screen += text
        return text
