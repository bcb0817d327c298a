"""Prints the changelog's entry of a tag: `python3 scripts/release_notes.py v1.2.0`. Needs nothing but Python."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class NoNotes(Exception):
    """Says in one sentence why this tag is no release."""


def notes(root: Path, tag: str) -> str:
    """Returns the changelog's entry of a tag. Raises NoNotes."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if tag != f"v{version}":
        raise NoNotes(f"The tag is {tag}, but pyproject.toml has the version {version}.")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"(?ms)^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## \[|\Z)", changelog)
    if not found or not found[1].strip():
        raise NoNotes(f"CHANGELOG.md has no entry for {version}.")
    return f"{found[1].strip()}\n"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("Name the tag: python3 scripts/release_notes.py v1.2.0", file=sys.stderr)
        return 1
    try:
        print(notes(ROOT, arguments[0]), end="")
    except NoNotes as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
