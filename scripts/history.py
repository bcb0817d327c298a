"""Finds the releases of the template in its git history."""

import re
import subprocess
from pathlib import Path

VERSION = re.compile(r'(?m)^version = "([^"]+)"$')
FINAL = re.compile(r"\d+\.\d+\.\d+\Z")
ANSWERED = ("copier.yml", "extensions", "template")
"""Lists the paths that a project is made from."""


class ReleaseError(Exception):
    """Says in one sentence why there is no release."""


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(("git", *arguments), cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout


def show(root: Path, commit: str, path: str) -> str:
    """Returns the text of a file in a commit; "" when the commit has no such file."""
    listed = git(root, "ls-tree", "--name-only", commit, "--", path)
    return git(root, "show", f"{commit}:{path}") if listed else ""


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def releases(root: Path) -> dict[str, str]:
    """Maps each release, oldest first, to the first commit whose pyproject.toml has its version. Needs no tags.

    Raises ReleaseError when the history is cut off before a release that the changelog names.
    """
    found: dict[str, str] = {}
    if not (root / ".git").exists():
        return found
    for commit in git(root, "log", "--first-parent", "--reverse", "--format=%H", "--", "pyproject.toml").split():
        match = VERSION.search(show(root, commit, "pyproject.toml"))
        if match and FINAL.match(match[1]):
            found.setdefault(match[1], commit)
    if missing := named(read(root, "CHANGELOG.md")) - found.keys():
        raise ReleaseError(
            f"The history has no commit of {', '.join(sorted(missing))}, which CHANGELOG.md names: fetch all of it, "
            "with `git fetch --unshallow`, or fetch-depth: 0 in CI."
        )
    return found


def named(changelog: str) -> set[str]:
    return set(re.findall(r"(?m)^## \[(\d+\.\d+\.\d+)\]", changelog))


def read(root: Path, path: str) -> str:
    return (root / path).read_text(encoding="utf-8")


def differing(root: Path) -> list[str]:
    """Lists the releases that do not make the same projects as the working tree does, oldest first."""
    return [version for version, commit in releases(root).items() if _differs(root, commit)]


def _differs(root: Path, commit: str) -> bool:
    there = git(root, "ls-files", "--others", "--exclude-standard", *ANSWERED)
    return bool(there or git(root, "diff", "--name-only", commit, "--", *ANSWERED))
