# /// script
# requires-python = ">=3.11"
# dependencies = ["pexpect>=4.9", "pyte>=0.8.2", "rich>=15.0.0"]
# ///
"""Draws docs/images/tour.svg from a real session: `uv run scripts/picture.py`, at the top of the repository.

Copier's questions are answered in a terminal, the project is served in another one, and the first chats with it. The
files that Copier lists as it writes them are shortened to a line of dots.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import pexpect
import pyte
from pyte.screens import Char
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS, ROWS = 100, 1000
SECONDS = 300
PROMPT = "$ "
CLEARED = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "NO_COLOR")
SERVE = ["run", "my-bot", "dev", "--port=8123"]
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code, monospace", "ui-monospace, monospace"
)
"""Leaves out the web font, which would be fetched from another server."""
NAMES = {"brown": "yellow", "default": ""}
"""Translates names of colours from pyte to rich."""


class Terminal:
    """Runs a shell, and keeps all that its screen has shown."""

    def __init__(self, folder: Path) -> None:
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self._screen)
        told = {name: value for name, value in os.environ.items() if name not in CLEARED}
        settings = {"HOME": str(folder), "PS1": PROMPT, "TERM": "xterm-256color", **_uv(), **_copier(folder)}
        size = (ROWS, COLUMNS)
        self._shell = pexpect.spawn(
            "bash", ["--norc"], cwd=str(folder), env={**told, **settings}, encoding="utf-8", dimensions=size
        )
        self._read(PROMPT)

    def type(self, line: str, until: str = PROMPT) -> None:
        self._shell.sendline(line)
        self._read(until)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serves the project in another terminal, in the same folder."""
        server = pexpect.spawn("uv", SERVE, cwd=f"{self._shell.cwd}/my-bot", env=self._shell.env, encoding="utf-8")
        server.expect_exact("startup complete", timeout=SECONDS)
        yield
        server.sendintr()
        server.expect(pexpect.EOF, timeout=SECONDS)

    def lines(self) -> list[Text]:
        found = [_line([self._screen.buffer[row][column] for column in range(COLUMNS)]) for row in range(ROWS)]
        while not found[-1].plain:
            found.pop()
        return found

    def _read(self, until: str) -> None:
        self._shell.expect_exact(until, timeout=SECONDS)
        self._stream.feed(f"{self._shell.before}{self._shell.after}")


def _uv() -> dict[str, str]:
    """Returns variables that let uv find its packages, although HOME is another folder."""
    cache = subprocess.run(("uv", "cache", "dir"), capture_output=True, text=True, check=True).stdout.strip()
    return {"UV_CACHE_DIR": cache, "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))}


def _copier(folder: Path) -> dict[str, str]:
    settings = folder / "settings.yml"
    settings.write_text("{}\n")  # not the developer's own
    return {"COPIER_SETTINGS_PATH": str(settings)}


def _line(characters: list[Char]) -> Text:
    text = Text()
    for style, together in groupby(characters, _style):
        text.append("".join(character.data for character in together), style)
    text.rstrip()
    return text


def _style(character: Char) -> str:
    colour = NAMES.get(str(character.fg), str(character.fg))
    colour = f"#{colour}" if re.fullmatch(r"[0-9a-f]{6}", colour) else re.sub(r"^bright", "bright_", colour)
    return f"{'bold ' * character.bold}{colour}".strip()


def shortened(lines: list[Text]) -> list[Text]:
    """Returns the lines, with those of the files that Copier lists replaced by dots."""
    found: list[Text] = []
    for line in lines:
        if not re.match(r"\s+(create|identical) ", line.plain):
            found.append(line)
        elif found[-1].plain != DOTS:
            found.append(Text(DOTS))
    return found


DOTS = "    ⋮"


def session(folder: Path) -> list[Text]:
    subprocess.run(("git", "clone", "--quiet", str(ROOT), str(folder / "parley")), check=True)
    terminal = Terminal(folder)
    terminal.type("uvx copier copy --vcs-ref=HEAD ~/parley my-bot", until="What is the project called?")
    terminal.type("", until="How many questions do you want to answer?")
    terminal.type("")
    terminal.type("cd my-bot")
    with terminal.serving():
        terminal.type("uv run my-bot chat  # in another terminal, while `uv run my-bot dev` serves", until="> ")
        terminal.type("Hello! Who are you?", until="again.")
        terminal.type("exit")
    terminal.type("uv run my-bot new slice ticket title:str due:date?")
    return shortened(terminal.lines())[:-1]


if __name__ == "__main__":
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    with tempfile.TemporaryDirectory() as scratch:
        for line in session(Path(scratch)):
            console.print(line)
    console.save_svg(str(ROOT / "docs" / "images" / "tour.svg"), title="Parley", code_format=FORMAT)
