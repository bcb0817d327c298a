"""Tests that a template which says something in other words does not conflict with what a user wrote beside it."""

from pathlib import Path

import pytest

from parley.docstrings import with_new_docstrings
from parley.git import merge

BASE = '''"""Holds things, in old words."""

LIMIT = 1
"""Limits it."""


class Thing:
    """Is a thing, as such."""

    size: int
    """Has its size."""

    def grow(self) -> int:
        """Grows by it."""
        return self.size + LIMIT
'''
NEW = (
    BASE.replace("Holds things, in old words.", "Holds things.")
    .replace("Limits it.", "Limits growth.\n\nIn steps.")
    .replace("Is a thing, as such.", "Represents a thing.")
    .replace("Has its size.", "Counts its parts.")
    .replace("Grows by it.", "Returns the size that follows.")
)
EDITS = {
    "above a module's": ('"""Holds', '# Mine.\n"""Holds'),
    "below a constant": ("LIMIT = 1", "LIMIT = 2"),
    "before a class's": ("class Thing:\n", "class Thing:\n    OWNER = 1\n\n"),
    "after a field's": ('size."""\n', 'size."""\n    colour: str = ""\n'),
    "after a function's": ('by it."""\n', 'by it."""\n        # Mine.\n'),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_beside_a_docstring_is_kept_without_a_conflict(edit: str, tmp_path: Path) -> None:
    old, new = EDITS[edit]
    edited = BASE.replace(old, new)
    assert merge(tmp_path, edited.encode(), BASE.encode(), NEW.encode())[1] == 1
    mine, base = with_new_docstrings(edited, BASE, NEW)
    merged, conflicts = merge(tmp_path, mine.encode(), base.encode(), NEW.encode())
    assert conflicts == 0
    before, here, after = (text.splitlines() for text in (BASE, edited, NEW))
    own, gone = set(here) - set(before), set(before) - set(here)
    lines = merged.decode().splitlines()
    assert own
    assert own <= set(lines)
    assert [line for line in lines if line and line not in own] == [line for line in after if line and line not in gone]


def test_a_docstring_of_the_users_own_conflicts_as_before(tmp_path: Path) -> None:
    own = BASE.replace("Grows by it.", "Grows as I like it.")
    mine, base = with_new_docstrings(own, BASE, NEW)
    merged, conflicts = merge(tmp_path, mine.encode(), base.encode(), NEW.encode())
    assert conflicts == 1
    assert b"Grows as I like it." in merged


def test_what_cannot_be_parsed_is_left_to_lines() -> None:
    assert with_new_docstrings("def", BASE, NEW) == ("def", BASE)
