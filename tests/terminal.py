"""Plays a person at a terminal, for programs that ask."""

import os
import pty
import select
import subprocess
import termios
from pathlib import Path

from processes import environment

SECONDS = 20
WHERE_IS_THE_CURSOR = b"\x1b[6n"


def converse(*command: str | Path, cwd: Path, answers: dict[str, str], seconds: int = SECONDS, **settings: str) -> str:
    """Waits for each question and types its answer and Enter. Returns the whole screen; the program must succeed."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (50, 200))
    quiet = environment(TERM="xterm", **settings)
    process = subprocess.Popen(command, cwd=cwd, env=quiet, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        screen = ""
        for question, answer in answers.items():
            screen += _read_until(ours, question, seconds)
            os.write(ours, f"{answer}\r".encode())
        screen += _read_until(ours, None, seconds)
        assert process.wait(seconds) == 0, screen
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return screen


def _read_until(terminal: int, words: str | None, seconds: int) -> str:
    """Returns what is printed up to some words, or to the end."""
    seen = b""
    while words is None or words.encode() not in seen:
        assert select.select([terminal], [], [], seconds)[0], f"waited in vain for {words!r} after {seen!r}"
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other end is closed
            assert words is None, f"ended before {words!r}: {seen!r}"
            break
        seen += chunk
        if WHERE_IS_THE_CURSOR in chunk:  # programs show some sentences only where a terminal answers this
            os.write(terminal, b"\x1b[1;1R")
    return seen.decode(errors="replace")
