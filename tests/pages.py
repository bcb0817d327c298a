"""Reads the fenced blocks of the manual: commands that are run, files that are written, and what commands print."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import ROOT

MANUAL = ROOT / "docs"
PAGES = sorted(MANUAL.glob("*.md"))
FENCE = re.compile(r"(?ms)^```(\w*)([^\n]*)\n(.*?)^```$")
NOT_RUN = re.compile(r' \{data-no-run="([^"]+)"\}\Z')
BACKGROUND = ' {data-background="yes"}'
"""Marks a server, as an attribute: the builder of the manual shows a fence with anything else as plain text."""
ANYTHING = "…"
CODE = {"python", "javascript"}


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    not_run: str = ""
    """Tells why it cannot be run in a test; tests/test_pages.py lists these reasons."""
    background: bool = False
    """Tells whether it serves until the page ends."""

    @property
    def file(self) -> str:
        """Returns the path that its first line names in a comment. Raises AssertionError when it names none."""
        named = re.match(r"(?:#|//) (\S+\.(?:py|mjs))\n", self.text)
        assert named, f"the first line of this block names no file:\n{self.text}"
        return named[1]


@dataclass
class Step:
    """Holds a command and what it prints, where the page shows it."""

    command: Block
    output: Block | None = None


def blocks(text: str) -> list[Block]:
    return [_block(*found) for found in FENCE.findall(text)]


def _block(language: str, told: str, text: str) -> Block:
    reason = NOT_RUN.search(told)
    assert reason or told in {"", BACKGROUND}, f"```{language}{told}"
    return Block(language, text, reason[1] if reason else "", told == BACKGROUND)


def run_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page.read_text(encoding="utf-8")) if not block.not_run]


def files(page: Path) -> dict[str, str]:
    """Returns the page's blocks of code, by their path in the project."""
    return {block.file: block.text for block in run_blocks(page) if block.language in CODE}


def steps(page: Path) -> list[Step]:
    """Returns the commands in order. A block that is neither one nor code is the output of the command before it."""
    found: list[Step] = []
    for block in run_blocks(page):
        if block.language == "sh":
            found.append(Step(block))
        elif block.language not in CODE:
            assert block.language in {"json", "text"}, f"what is a block of {block.language!r}?"
            assert found, f"no command prints this:\n{block.text}"
            assert found[-1].output is None, f"no command prints this:\n{block.text}"
            found[-1].output = block
    return found


def is_as_shown(block: Block, printed: str) -> bool:
    """Tells whether the output is as on the page, where `…` stands for anything."""
    if block.language == "json":
        return _same(json.loads(block.text), json.loads(printed))
    parts = map(re.escape, block.text.strip().split(ANYTHING))
    return re.fullmatch("(?s:.*?)".join(parts), printed.strip()) is not None


def _same(shown: Any, printed: Any) -> bool:
    if isinstance(shown, dict) and isinstance(printed, dict):
        return shown.keys() == printed.keys() and all(_same(shown[key], printed[key]) for key in shown)
    if isinstance(shown, list) and isinstance(printed, list):
        return len(shown) == len(printed) and all(map(_same, shown, printed))
    return shown in (ANYTHING, printed)
