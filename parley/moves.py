"""Reads what a release moves or renames: files, folders, and names in Python modules."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from parley.errors import ParleyError
from parley.git import git

LIST = "moves.yml"
"""Names the file in the template's repository that lists `files`, `names` and `gone` for each release."""
SIMILARITY = "--find-renames=70%"
SMALLEST = 100
"""Sets how many bytes a file needs for git to find its new path: many smaller ones are alike."""


@dataclass(frozen=True)
class Moves:
    """Maps old paths and names to new ones.

    `files` has paths of a project; one that ends with "/" is a folder, with what users put there. `names` has dotted
    names, which begin with the old name of the module. `gone` has paths of what a project no longer needs.
    """

    files: Mapping[str, str] = field(default_factory=dict[str, str])
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    gone: frozenset[str] = frozenset()

    def path(self, path: str) -> str:
        """Returns the new path of a file."""
        if path in self.files:
            return self.files[path]
        for folder in parents(path):
            if folder in self.files:
                return self.files[folder] + path.removeprefix(folder)
        return path

    def then(self, later: "Moves") -> "Moves":
        """Returns these moves and later ones, combined."""
        earlier = Moves({new: old for old, new in self.files.items()})
        files = {old: later.path(new) for old, new in self.files.items()}
        files |= {earlier.path(old): new for old, new in later.files.items() if old not in files}
        called = {new: old for old, new in self.names.items()}
        names = {old: later.names.get(new, _in_module(new, later)) for old, new in self.names.items()}
        for old, new in later.names.items():
            if old not in called:
                names.setdefault(_in_module(old, earlier), new)
        return Moves(files, names, self.gone | later.gone)


def parents(path: str) -> Iterator[str]:
    """Yields the folders that a path is in, the innermost first, each with "/" at its end."""
    while "/" in path.rstrip("/"):
        path = path.rstrip("/").rpartition("/")[0] + "/"
        yield path


def module_of(path: str) -> str:
    """Returns the dotted name of a Python file, or of a folder; "" for any other file."""
    if path.endswith(("/__init__.py", "/")):
        return path.removesuffix("__init__.py").rstrip("/").replace("/", ".")
    return path.removesuffix(".py").replace("/", ".") if path.endswith(".py") else ""


def _in_module(dotted: str, moves: Moves) -> str:
    """Returns a dotted name with the new name of its module."""
    module, _, rest = dotted.rpartition(".")
    while module:
        for path in (f"{module.replace('.', '/')}.py", f"{module.replace('.', '/')}/__init__.py"):
            if (now := moves.path(path)) != path:
                return f"{module_of(now)}.{rest}"
        module, _, last = module.rpartition(".")
        rest = f"{last}.{rest}"
    return dotted


def read_moves(text: str, known: str = "") -> Moves:
    """Combines the moves of all releases in a list, but for those in `known`, an older list. Raises ParleyError."""
    earlier = {pair for moves in _listed(known) for pair in (*moves.files.items(), *moves.names.items())}
    found = Moves()
    for moves in _listed(text):
        files, names = (dict(part.items() - earlier) for part in (moves.files, moves.names))
        found = found.then(Moves(files, names, moves.gone))
    return found


def _listed(text: str) -> list[Moves]:
    try:
        releases: Any = yaml.safe_load(text) or {}
        return [_moves(entry or {}) for entry in releases.values()]
    except (AttributeError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ParleyError(f"The template's {LIST} cannot be read: {str(error).splitlines()[0]}.") from None


def _moves(entry: Mapping[str, Any]) -> Moves:
    if unknown := entry.keys() - {"files", "names", "gone"}:
        raise ValueError(f"a release has no {min(unknown)}")
    files, names = (entry.get(part) or {} for part in ("files", "names"))
    for old, new in (*files.items(), *names.items()):
        if old.endswith("/") != new.endswith("/"):
            raise ValueError(f"{old} cannot become {new}")
    return Moves(files, names, frozenset(entry.get("gone") or ()))


def found_by_git(old: Path, new: Path, listed: Moves) -> Moves:
    """Adds to the listed moves the renames of files that git detects, where neither path is listed."""
    taken = {listed.path(path) for path in listed.files}
    found: dict[str, str] = {}
    for before, after in _renames(old, new):
        is_small = (old / before).stat().st_size < SMALLEST
        if listed.path(before) == before and after not in taken and not is_small:
            found[before] = after
    return Moves({**found, **listed.files}, listed.names, listed.gone)


def _renames(old: Path, new: Path) -> Iterator[tuple[str, str]]:
    """Yields the old and new paths of files that git sees as renamed between two folders side by side."""
    scratch = old.parent / f"{old.name}-to-{new.name}.git"
    git(old.parent, "init", "--quiet", "--bare", str(scratch))
    trees = [_tree(scratch, folder) for folder in (old, new)]
    listed = git(scratch, "diff-tree", "-r", "-z", "--diff-filter=R", "--name-status", SIMILARITY, "-l0", *trees)
    fields = listed.split("\0")
    yield from zip(fields[1::3], fields[2::3], strict=False)


def _tree(scratch: Path, folder: Path) -> str:
    variables = {"GIT_INDEX_FILE": str(scratch / f"{folder.name}.index")}
    plain = ("-c", "core.autocrlf=false", "-c", "core.safecrlf=false")
    git(folder, f"--git-dir={scratch}", f"--work-tree={folder}", *plain, "add", "--all", "--force", ".", **variables)
    return git(folder, f"--git-dir={scratch}", "write-tree", **variables).strip()
