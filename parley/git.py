"""Runs git, whose output is UTF-8 whatever the locale says."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from parley.errors import ParleyError

MARKER = "<<<<<<< before updating"
"""Begins a conflict in a file, where both sides changed the same lines; Copier writes the same marker."""


_FATAL = re.compile(r"(?m)^fatal: (.+?)\.?$")


class GitError(Exception):
    """Means that git failed; the message is git's reason."""


def git(folder: Path, *arguments: str, **variables: str) -> str:
    """Runs git in a folder, with these environment variables. Returns its output. Raises GitError."""
    done = _run(folder, arguments, variables)
    if done.returncode != 0:
        said = _decoded(done.stderr).strip()
        fatal = _FATAL.search(said)
        raise GitError(fatal[1] if fatal else said.splitlines()[-1] if said else f"exit status {done.returncode}")
    return _decoded(done.stdout)


def lines(folder: Path, *arguments: str) -> list[str]:
    """Runs git with `-z` among the arguments. Returns the entries of its output. Raises GitError."""
    return [line for line in git(folder, *arguments).split("\0") if line]


def merge(folder: Path, mine: bytes, base: bytes, theirs: bytes) -> tuple[bytes, int]:
    """Merges two changes of a text. Returns the text and the number of conflicts.

    `folder` is scratch space. Of binary files, `mine` is kept, with one conflict.
    """
    paths = [folder / name for name in ("mine", "base", "theirs")]
    for path, text in zip(paths, (mine, base, theirs), strict=True):
        path.write_bytes(text)
    labels = (f"-L{label}" for label in ("before updating", "last update", "after updating"))
    done = _run(folder, ("merge-file", "--stdout", "--quiet", *labels, *map(str, paths)))
    return (mine, 1) if done.returncode > 127 else (done.stdout, done.returncode)


def check_out(folder: Path, commit: str, into: Path) -> None:
    """Writes the files of a folder, as they were in a commit, to another one. Raises GitError."""
    tree = f"{commit}:{git(folder, 'rev-parse', '--show-prefix').strip()}"
    index = {"GIT_INDEX_FILE": str(into.parent / f"{into.name}.index")}
    top = Path(git(folder, "rev-parse", "--show-toplevel").strip())
    git(top, "read-tree", tree, **index)
    git(top, "checkout-index", "--all", "--quiet", f"--prefix={into.as_posix()}/", **index)


def _run(
    folder: Path, arguments: tuple[str, ...], variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    if not (command := shutil.which("git")):
        raise ParleyError("Git is not installed, and this command needs it: install it first.")
    environment = {**os.environ, "LC_ALL": "C", **(variables or {})}
    quoted = ("-c", "core.quotePath=false")
    return subprocess.run([command, *quoted, *arguments], cwd=folder, env=environment, capture_output=True, check=False)


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def check_tree(folder: Path) -> None:
    """Raises ParleyError unless every file of the folder is committed as it is, so that git can restore it."""
    check_repository(folder)
    _check_conflicts(folder)
    if changed := [line[3:] for line in lines(folder, "status", "--porcelain", "-z", "--no-renames", "--", ".")]:
        raise ParleyError(f"Not committed yet: {few(changed)}. Commit or stash that first.")
    if not lines(folder, "ls-files", "-z", "--", "."):
        raise ParleyError(f"Git tracks no file of {folder}, perhaps because it is ignored: add and commit them first.")


def check_repository(folder: Path) -> None:
    """Raises ParleyError outside a repository, or in one without a commit."""
    try:
        git(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    except GitError:
        raise ParleyError(
            f"{folder} is in no git repository, or in one without a commit, and an update could lose what you wrote: "
            "run `git init`, `git add .` and `git commit` first."
        ) from None


def _check_conflicts(folder: Path) -> None:
    if marked := marked_files(folder) or lines(folder, "diff", "--name-only", "--diff-filter=U", "-z"):
        raise ParleyError(f"A conflict is left in {few(marked)}: settle and commit it first.")


def marked_files(folder: Path) -> list[str]:
    """Lists the files with conflict markers of an update."""
    try:
        return lines(folder, "grep", "--untracked", "--name-only", "-z", "-e", f"^{MARKER}", "--", ".")
    except GitError:  # git grep fails if it finds nothing
        return []


def few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
