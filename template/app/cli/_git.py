"""Git, for the commands that follow the template."""

import shutil
import subprocess
from pathlib import Path

from app.core.errors import SetupError


class GitError(Exception):
    """Git refused; the message is what it said last."""


def git(folder: Path, *arguments: str) -> str:
    """What it printed. Raises GitError."""
    done = _run(folder, *arguments)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise GitError(said[-1].removeprefix("fatal: ").rstrip("."))
    return done.stdout


def lines(folder: Path, *arguments: str) -> list[str]:
    """What it printed for `-z`. Raises GitError."""
    return [line for line in git(folder, *arguments).split("\0") if line]


def count_conflicts(mine: Path, base: Path, theirs: Path) -> int:
    """How often both sides changed the same lines of a file."""
    done = _run(mine.parent, "merge-file", "--quiet", "--stdout", str(mine), str(base), str(theirs))
    return max(done.returncode, 0)


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if not (command := shutil.which("git")):
        raise SetupError("Git is not installed: install it first, the template is followed with it.")
    return subprocess.run(  # noqa: S603 - git alone, and without a shell
        [command, *arguments], cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )


def check_tree(folder: Path) -> None:
    """Raises SetupError unless every file of the folder is as it was committed, so that git can bring it back."""
    try:
        git(folder, "rev-parse", "--show-toplevel")
    except GitError:
        raise SetupError(
            f"{folder} is in no git repository, and without one an update could lose what you wrote: "
            "run `git init`, `git add .` and `git commit` first."
        ) from None
    _check_conflicts(folder)
    if changed := [line[3:] for line in lines(folder, "status", "--porcelain", "-z", "--no-renames", "--", ".")]:
        raise SetupError(f"Not committed yet: {few(changed)}. Commit or stash that first.")
    if not lines(folder, "ls-files", "-z", "--", "."):
        raise SetupError(f"Git keeps no file of {folder}, perhaps because it is ignored: add and commit them first.")


def _check_conflicts(folder: Path) -> None:
    marked = _marked(folder) or lines(folder, "diff", "--name-only", "--diff-filter=U", "-z")
    if marked:
        raise SetupError(f"A conflict is left in {few(marked)}: settle and commit it first.")


def _marked(folder: Path) -> list[str]:
    """Files with the lines that an update writes where both sides changed something."""
    try:
        return lines(folder, "grep", "--name-only", "-z", "-e", "^<<<<<<< before updating", "--", ".")
    except GitError:  # how it says that there is none
        return []


def few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
