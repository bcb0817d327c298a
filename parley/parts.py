"""Moves the user's edits of functions, classes and constants that an update moves or renames."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from parley.docstrings import with_new_docstrings
from parley.git import merge
from parley.modules import with_imports
from parley.pieces import Piece, pieces, used, without


@dataclass(frozen=True)
class Leaving:
    """Lists the parts of a module that have an entry in the list of moves."""

    parts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Maps each part to its new dotted name. Members of a class are `Class.member`."""
    beside: Mapping[str, str] = field(default_factory=dict[str, str])
    """Maps what the user added to the module, and only one of the parts uses, to that part."""


def leaving(module: str, mine: str, base: str, names: Mapping[str, str]) -> Leaving:
    """Finds the parts of a module that move; none if it cannot be parsed."""
    try:
        here, before = pieces(mine), pieces(base)
    except SyntaxError:
        return Leaving()
    found = {old.removeprefix(f"{module}."): new for old, new in names.items() if old.startswith(f"{module}.")}
    parts = {name: new for name, new in found.items() if name in before}
    return Leaving(parts, dict(_added(mine, here, before, parts)))


def _added(
    text: str, here: Mapping[str, Piece], before: Mapping[str, Piece], parts: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    whole = {name: piece.cut(text) for name, piece in here.items() if "." not in name}
    for name in whole.keys() - before.keys():
        users = [other for other, part in whole.items() if other != name and name in used(part)]
        if len(users) == 1 and users[0] in parts:
            yield name, users[0]


@dataclass(frozen=True)
class Edit:
    """Holds a part of a module, with all names new already: as the user has it, and as it was rendered."""

    name: str
    mine: str
    base: str
    beside: str
    module: str
    """Holds the whole module of the user."""

    @classmethod
    def of(cls, mine: str, base: str, name: str, beside: list[str]) -> "Edit":
        added = "".join(f"{_cut(mine, other)}\n\n" for other in beside)
        return cls(name, _cut(mine, name), _cut(base, name), added, mine)


def _cut(text: str, name: str) -> str:
    piece = pieces(text).get(name)
    return textwrap.dedent(piece.cut(text)) if piece else ""


def put(scratch: Path, text: str, name: str, edit: Edit) -> tuple[str, int] | None:
    """Merges an edit into the part's new module. Returns it and the number of conflicts; None without such a part."""
    try:
        aim = pieces(text).get(name)
    except SyntaxError:
        return None
    if aim is None or not edit.mine:
        return None
    theirs = aim.cut(text)
    indent = theirs[: len(theirs) - len(theirs.lstrip())]
    after = textwrap.dedent(theirs)
    mine, base = with_new_docstrings(edit.mine, edit.base, after)
    merged, conflicts = merge(scratch, mine.encode(), base.encode(), after.encode())
    lines = text.splitlines(keepends=True)
    lines[aim.first : aim.last] = [edit.beside, textwrap.indent(merged.decode(), indent)]
    return ("".join(lines), conflicts) if conflicts else (with_imports("".join(lines), edit.module), 0)


def left(text: str, gone: set[str]) -> str:
    """Returns a module without the parts in `gone`."""
    return without(text, [piece for name, piece in pieces(text).items() if name in gone]) if gone else text
