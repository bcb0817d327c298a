"""Reads and prints text in the encoding of the console, whatever that is."""

import os
import sys
from io import TextIOWrapper
from typing import TextIO

from app.core.errors import SetupError


def prepare() -> None:
    """Lets a console that lacks a character get another one, and `typed` tell what it cannot decode."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace")):
        if isinstance(stream, TextIOWrapper):  # it is none where there is no console, and in tests
            stream.reconfigure(errors=errors)


def terminal_input() -> TextIO:
    """Returns standard input. Raises SetupError when it is closed."""
    if sys.stdin is None:
        raise SetupError("Standard input is closed: nothing can be typed.")
    return sys.stdin


def typed(line: str) -> str:
    """Returns what was typed. Raises SetupError when it is in another encoding than the console's."""
    try:
        line.encode()
    except UnicodeEncodeError:
        encoding = getattr(sys.stdin, "encoding", None) or "UTF-8"
        raise SetupError(
            f"What was typed is not text in {encoding}: set PYTHONIOENCODING to the encoding of the terminal."
        ) from None
    return line


def prints_unicode() -> bool:
    """Tells whether standard output takes every character."""
    return (getattr(sys.stdout, "encoding", None) or "UTF-8").lower().replace("_", "-").startswith("utf")


def abandon_output() -> None:
    """Lets Python end in peace when standard output takes nothing more: it would try once more to write the rest."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
