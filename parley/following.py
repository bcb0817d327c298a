"""Computes how the user's edits follow an update, from the project before it and the old and the new render."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from parley.docstrings import with_new_docstrings
from parley.git import merge
from parley.modules import Texts, merge_modules
from parley.moves import Moves, module_of, parents
from parley.names import Names
from parley.parts import Edit, Leaving, leaving, left, put
from parley.pieces import imported
from parley.rewrite import NotPython, rewrite
from parley.template import names as files_of
from parley.tidy import Tidy

OWN, TEST = "own_", "test_"
"""Prefixes the names of user modules that make room for one of the template, and of those that pytest finds."""
SPECIAL = ("/__init__.py", "/conftest.py")
"""Lists modules that work by their names, and so cannot be renamed."""
SLICES = ("app/api/v1/", "app/models/")
"""Lists folders where a module stands for a path of the API or a table: renaming the file would not help."""


@dataclass
class Change:
    """Describes what has to be done to a file after Copier's update."""

    path: str
    text: bytes | None
    """Holds the content to write; None deletes the file."""
    plain: bytes | None
    """Holds the content that Copier leaves there; None for no file."""
    conflicts: int = 0


@dataclass
class Followed:
    changes: dict[str, Change] = field(default_factory=dict[str, Change])
    moved: dict[str, str] = field(default_factory=dict[str, str])
    """Maps the old path of each file that moved to its new one."""
    own: set[str] = field(default_factory=set[str])
    """Holds the new paths of the files that the user wrote or edited."""
    edited: set[str] = field(default_factory=set[str])
    """Holds the old paths of moved files, or of moved parts, that have something of the user's."""
    notes: list[str] = field(default_factory=list[str])
    """Lists what is left for the user to do, a sentence each."""
    blocked: list[str] = field(default_factory=list[str])
    """Lists the user's files whose names the template needs."""
    members: list[str] = field(default_factory=list[str])
    """Lists the old names of renamed methods and attributes."""

    @property
    def conflicts(self) -> list[str]:
        return sorted(path for path, change in self.changes.items() if change.conflicts)


@dataclass(frozen=True)
class Sides:
    """Holds the folders of the project as it was committed and of both renders, and the files that git tracks."""

    before: Path
    kept: frozenset[str]
    old: Path
    new: Path
    scratch: Path

    def mine(self, path: str) -> bytes:
        return (self.before / path).read_bytes()

    def base(self, path: str) -> bytes:
        return (self.old / path).read_bytes()

    def theirs(self, path: str) -> bytes:
        return (self.new / path).read_bytes()


def follow(sides: Sides, moves: Moves) -> Followed:
    """Returns what has to be done after Copier's update, so that the user's edits follow what moved."""
    return _Following(sides, moves).followed()


class _Following:
    def __init__(self, sides: Sides, moves: Moves) -> None:
        self._sides = sides
        self._in_old, self._in_new = files_of(sides.old), files_of(sides.new)
        self._own = sides.kept - self._in_old
        self._rendered = sorted(self._in_old & sides.kept)
        self._edited = [path for path in self._rendered if sides.mine(path) != sides.base(path)]
        self._result = Followed()
        self._tidy = Tidy(
            sides.before, {path.split("/")[0] for path in sides.kept if path.endswith(".py") and "/" in path}
        )
        room = dict(self._make_room(moves))
        self._moves = Moves({**moves.files, **room}, moves.names)
        self._leaving = {path: self._leaving_of(path) for path in self._edited}
        names = {**moves.names, **dict(self._names_beside())}
        self._names = Names(Moves(self._moves.files, names), sides.kept, self._imports)

    def followed(self) -> Followed:
        for path in self._edited:
            self._follow_edit(path)
        for path, found in self._leaving.items():
            self._follow_parts(path, found)
        for path in sorted(self._own):
            self._follow_own(path)
        self._take_away_what_moved()
        self._take_away_what_was_deleted()
        self._result.own = {
            self._moves.path(path) for path in (*self._own, *self._edited)
        } | self._result.changes.keys()
        self._result.members = [old for old in self._moves.names if self._is_member(old)]
        return self._result

    def _imports(self, path: str) -> Mapping[str, str]:
        try:
            found = imported(self._sides.mine(path).decode())
        except (SyntaxError, UnicodeDecodeError):
            return {}
        return {name: f"{module}.{what}" for name, (module, what) in found.items() if what}

    def _leaving_of(self, path: str) -> Leaving:
        if not path.endswith(".py"):
            return Leaving()
        mine, base = (side.decode("utf-8", "replace") for side in (self._sides.mine(path), self._sides.base(path)))
        return leaving(module_of(path), mine, base, self._moves.names)

    def _names_beside(self) -> Iterator[tuple[str, str]]:
        """Yields the old and the new name of what the user added beside a part, which moves with it."""
        for path, found in self._leaving.items():
            for name, part in found.beside.items():
                yield f"{module_of(path)}.{name}", f"{found.parts[part].rpartition('.')[0]}.{name}"

    def _make_room(self, moves: Moves) -> Iterator[tuple[str, str]]:
        """Yields user modules whose names the template needs, with new names. Other such files conflict in Copier."""
        coming = self._in_new - self._in_old
        folders = {folder for path in coming for folder in parents(path)}
        for path in sorted(path for path in self._own if path.endswith(".py")):
            there = moves.path(path)
            is_taken = there in coming and self._sides.mine(path) != self._sides.theirs(there)
            is_shadowed = f"{there.removesuffix('.py')}/" in folders
            if not (is_taken or is_shadowed) or there.endswith(SPECIAL):
                continue
            if there.startswith(SLICES):
                self._result.blocked.append(path)
            else:
                yield path, self._room(there)

    def _room(self, path: str) -> str:
        folder, slash, name = path.rpartition("/")
        kind = TEST if name.startswith(TEST) else ""
        room = f"{folder}{slash}{kind}{OWN}{name.removeprefix(kind)}"
        while room in self._in_new | self._sides.kept:
            room = f"{room.removesuffix('.py')}_.py"
        return room

    # Files of the template that the user edited

    def _follow_edit(self, path: str) -> None:
        there = self._moves.path(path)
        if there not in self._in_new:
            return
        theirs = self._sides.theirs(there)
        plain, clashes = self._merged(path) if there == path else (theirs, 0)
        mine, base = (self._rewritten(side, path, there) for side in (self._sides.mine(path), self._sides.base(path)))
        is_same = (mine, base, there) == (self._sides.mine(path), self._sides.base(path), path)
        if is_same and not clashes:
            return  # nothing in it was renamed: Copier does the rest
        text, conflicts = self._merge(mine, base, theirs, self._elsewhere(path, there), there)
        if is_same and conflicts:
            return  # Copier shows them
        if there != path:
            self._result.edited.add(path)
        if text != plain:
            self._result.changes[there] = Change(there, text, plain, conflicts)

    def _elsewhere(self, path: str, there: str) -> set[str]:
        """Returns the parts of a module, by their new names, that do not move to where the rest of it moves."""
        found = self._leaving[path]
        gone = {name for name, now in found.parts.items() if self._file_of(now) != there}
        beside = {name for name, part in found.beside.items() if part in gone}
        return {self._renamed(path, name) for name in gone} | beside

    def _renamed(self, path: str, name: str) -> str:
        """Returns what a part, which may be `Class.member`, is called in its module once that is rewritten."""
        first, dot, member = name.partition(".")
        return self._names.moves.names.get(f"{module_of(path)}.{first}", first).rpartition(".")[2] + dot + member

    def _merge(self, mine: bytes, base: bytes, theirs: bytes, gone: set[str], path: str) -> tuple[bytes, int]:
        try:
            if not path.endswith(".py"):
                raise SyntaxError
            whole = mine.decode()
            after = theirs.decode()
            sides = Texts(*with_new_docstrings(left(whole, gone), left(base.decode(), gone), after), after)
        except (SyntaxError, UnicodeDecodeError):
            return merge(self._sides.scratch, mine, base, theirs)
        text, conflicts = merge_modules(self._sides.scratch, sides, whole)
        is_tidy = not conflicts and self._tidied(theirs, path) == theirs
        return (self._tidied(text.encode(), path) if is_tidy else text.encode()), conflicts

    def _merged(self, path: str) -> tuple[bytes, int]:
        """Returns Copier's merge of a file that both sides changed and that did not move, and its conflicts."""
        sides = self._sides
        return merge(sides.scratch, sides.mine(path), sides.base(path), sides.theirs(path))

    def _rewritten(self, content: bytes, path: str, there: str) -> bytes:
        """Returns a file with the new names in it."""
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            return content
        if not path.endswith(".py"):
            return self._names.in_text(text).encode()
        try:
            done = rewrite(text, path, self._names)
        except NotPython:
            return self._names.in_text(text).encode()
        self._result.notes += (f"{there}: {note}." for note in done.notes)
        if done.text == text:
            return content
        is_tidy = self._tidied(content, path) == content
        return self._tidied(done.text.encode(), there) if is_tidy else done.text.encode()

    def _tidied(self, content: bytes, path: str) -> bytes:
        return self._tidy.tidied(content, path)

    def _file_of(self, dotted: str) -> str:
        """Returns the file of the new render that a dotted name is in; "" if there is none."""
        module = dotted.rpartition(".")[0]
        while module:
            path = module.replace(".", "/")
            for file in (f"{path}.py", f"{path}/__init__.py"):
                if file in self._in_new:
                    return file
            module = module.rpartition(".")[0]
        return ""

    def _is_member(self, dotted: str) -> bool:
        return not self._names.is_module(dotted.rpartition(".")[0])

    # Parts of a module that move to another one

    def _follow_parts(self, path: str, found: Leaving) -> None:
        rest = self._moves.path(path)
        goes = {name: there for name, now in found.parts.items() if (there := self._file_of(now)) and there != rest}
        if not goes:
            return
        sides = (self._sides.mine(path), self._sides.base(path))
        mine, base = (self._rewritten(side, path, rest).decode() for side in sides)
        for name, there in goes.items():
            beside = [other for other, part in found.beside.items() if part == name]
            edit = Edit.of(mine, base, self._renamed(path, name), beside)
            self._follow_part(path, name, there, edit)

    def _follow_part(self, path: str, name: str, there: str, edit: Edit) -> None:
        now = self._leaving[path].parts[name].removeprefix(f"{module_of(there)}.")
        if edit.mine == edit.base:
            return
        change = self._result.changes.get(there)
        plain = change.plain if change else self._plain(there)
        text = (change.text if change else plain) or b""
        done = put(self._sides.scratch, text.decode(), now, edit)
        if done is None:
            self._result.notes.append(f"{there}: your edit of {name} in {path} does not fit; git still has it.")
            return
        merged, conflicts = done[0].encode(), done[1]
        merged = merged if conflicts else self._tidied(merged, there)
        self._result.edited.add(path)
        self._result.changes[there] = Change(there, merged, plain, conflicts + (change.conflicts if change else 0))

    def _plain(self, path: str) -> bytes:
        is_edited = path in self._in_old and path in self._sides.kept
        return self._merged(path)[0] if is_edited else self._sides.theirs(path)

    # The user's own files, and files that the user deleted

    def _follow_own(self, path: str) -> None:
        if path in self._result.blocked or path.endswith(".lock"):
            return
        there, mine = self._moves.path(path), self._sides.mine(path)
        text = self._rewritten(mine, path, there)
        if there == path:
            if text != mine:
                self._result.changes[path] = Change(path, text, mine)
            return
        self._result.moved[path] = there
        self._result.edited.add(path)
        self._result.changes[path] = self._room_made(path, mine)
        self._result.changes[there] = Change(there, text, None)

    def _room_made(self, path: str, mine: bytes) -> Change:
        """Returns the change that puts the template's file where a user's file was, instead of Copier's conflict."""
        if path not in self._in_new:
            return Change(path, None, mine)
        theirs = self._sides.theirs(path)
        return Change(path, theirs, merge(self._sides.scratch, mine, b"", theirs)[0])

    def _take_away_what_moved(self) -> None:
        """Deletes moved files at their old paths, where Copier leaves them if a new rule excludes the path."""
        for path in self._rendered:
            there = self._moves.path(path)
            if there == path or there not in self._in_new:
                continue
            self._result.moved[path] = there
            if path not in self._in_new:
                self._result.changes[path] = Change(path, None, self._sides.mine(path))

    def _take_away_what_was_deleted(self) -> None:
        """Keeps files deleted that the user had deleted and that the template has moved."""
        deleted = self._in_old - self._sides.kept
        brought = {self._file_of(name) for name in self._moves.names.values()}
        for path in sorted(self._in_new - self._in_old - self._sides.kept - brought):
            origins = {old for old in self._in_old if self._moves.path(old) == path}
            if origins and origins <= deleted:
                self._result.changes[path] = Change(path, None, self._sides.theirs(path))
