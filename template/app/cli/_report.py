"""Collects what the `doctor` command found, one line for each thing."""

import re
from dataclasses import dataclass

import typer

from app.core.display import displayable
from app.core.findings import Off, Problem

_COLOURS = {"ok": "green", "off": "blue", "missing": "yellow", "problem": "red"}
_TO_BE_MENDED = {"missing", "problem"}


@dataclass(frozen=True, slots=True)
class _Line:
    word: str
    text: str
    setting: str = ""
    """Names the setting whose value the line states, if it states nothing else."""
    about: tuple[str, ...] = ()
    """Names the settings about which the line says more than their value."""


class Report:
    """Keeps the lines until all checks are done, since a later check may find that a setting cannot be used."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []

    @property
    def is_broken(self) -> bool:
        return any(line.word in _TO_BE_MENDED for line in self._lines)

    def ok(self, text: str, *about: str) -> None:
        """Reports that something is well. `about` names the settings that this verdict is on."""
        self._add("ok", text, about)

    def off(self, text: str, *about: str) -> None:
        """Reports that something optional is not there."""
        self._add("off", text, about)

    def missing(self, text: str) -> None:
        self._add("missing", text)

    def problem(self, text: str) -> None:
        self._add("problem", text)

    def setting(self, name: str, text: str) -> None:
        """Reports the value of a setting, which is well unless another line says more about the setting."""
        self._lines.append(_Line("ok", f"{name} {text}", name))

    def finding(self, text: str) -> None:
        """Reports a sentence of a feature: a plain one as ok, Off and Problem as such."""
        match text:
            case Problem():
                self.problem(text)
            case Off():
                self.off(text)
            case _:
                self.ok(text)

    def print(self) -> None:
        """Prints the lines, with one verdict on each setting."""
        for line in self._lines:
            if not (line.setting and any(_judges(other, line.setting) for other in self._lines)):
                typer.echo(f"{typer.style(f'{line.word:<9}', fg=_COLOURS[line.word])}{displayable(line.text)}")

    def _add(self, word: str, text: str, about: tuple[str, ...] = ()) -> None:
        if (line := _Line(word, text, about=about)) not in self._lines:
            self._lines.append(line)


def _judges(line: _Line, setting: str) -> bool:
    """Tells whether a line says that the setting must be mended, or more about it than its value."""
    if line.setting:
        return False
    named = rf"\b{setting}\b" if line.word in _TO_BE_MENDED else rf"\A{setting}\b"
    return setting in line.about or bool(re.search(named, line.text))
