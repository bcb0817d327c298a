"""Applies to a project the changes that Copier's update leaves to parley. Applying them twice changes nothing."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from parley.following import Change, Followed
from parley.git import git, lines, merge


def apply(project: Path, followed: Followed) -> list[str]:
    """Applies the changes. Returns the files that were written or deleted."""
    with TemporaryDirectory(prefix="merge-", ignore_cleanup_errors=True) as scratch:
        written = [change.path for change in followed.changes.values() if _apply(project, change, Path(scratch))]
    if unmerged := set(lines(project, "diff", "--name-only", "--diff-filter=U", "-z", "--relative")) & {*written}:
        git(project, "reset", "--quiet", "--", *sorted(unmerged))
    return sorted(written)


def _apply(project: Path, change: Change, scratch: Path) -> bool:
    path = project / change.path
    content = path.read_bytes() if path.is_file() else None
    wanted = _wanted(content, change, scratch)
    if wanted == content:
        return False
    if wanted is None:
        path.unlink()
        with suppress(OSError):  # stops at the first folder that is not empty
            for folder in _folders(project, path):
                folder.rmdir()
    else:
        _write(path, wanted)
    return True


def _wanted(content: bytes | None, change: Change, scratch: Path) -> bytes | None:
    if content in (change.text, change.plain):
        return change.text
    if content is None or change.text is None:
        return content  # the user has deleted or edited it since the update, and keeps it so
    merged, conflicts = merge(scratch, content, change.plain or b"", change.text)
    return content if conflicts else merged


def _folders(project: Path, path: Path) -> Iterator[Path]:
    yield from (folder for folder in path.parents if project in folder.parents)


def _write(path: Path, content: bytes) -> None:
    """Writes the file atomically, and keeps its mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_bytes(content)
        if path.exists():
            with suppress(OSError):  # where files have no modes
                new.chmod(path.stat().st_mode)
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
