"""Makes a release of the template: `uvx nox -s release -- 1.2.0`.

Everything is checked before anything is written. Then the changelog and the version are changed, committed and tagged.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import deep
import yaml
from history import FINAL, VERSION, ReleaseError, git, numbers, read, releases, show

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # parley is not installed here

from parley.moves import LIST, Moves, read_moves

SECTIONS = ("In a project", "Settings", "Dependencies", "By hand")
"""Lists the sections that a release's entry needs for people who update; an empty one says "Nothing."."""

NOTHING_YET = "".join(f"### {title}\n\nNothing.\n\n" for title in SECTIONS)

TEMPLATE = "template"
MIGRATIONS = "template/alembic/versions"
SETTINGS = "template/.env.example.jinja"
DEPENDENCIES = "template/pyproject.toml.jinja"
_SETTING = re.compile(r"(?m)^#?([A-Z][A-Z0-9_]*)=")
_DEPENDENCY = re.compile(r'(?m)^    "([a-z0-9-]+)[\[>][^"]*",$')


def problems(root: Path, version: str, unproven: Sequence[str] = ()) -> Iterator[str]:
    """Yields what prevents this release, a sentence each. `unproven` names the parts that `deep` has not passed."""
    if not FINAL.match(version):
        yield f"{version!r} is not a version such as 1.2.0."
        return
    earlier = releases(root)
    newest = max(earlier, key=numbers, default=None)
    if newest and numbers(version) <= numbers(newest):
        yield f"{version} does not come after {newest}."
    if git(root, "status", "--porcelain"):
        yield "There are changes that are not committed."
    if git(root, "tag", "--list", f"v{version}"):
        yield f"There is a tag v{version} already."
    if unproven:
        yield f"This tree has not passed {', '.join(unproven)}: `uvx nox -s deep` runs what is missing."
    yield from problems_of_entry(root, earlier[newest] if newest else None)
    for release, commit in earlier.items():
        yield from (f"{path} is not as it was released in {release}." for path in changed_migrations(root, commit))
        lost = (*lost_answers(root, commit), *lost_paths(root, commit))
        yield from (f"{what}, compared with {release}." for what in lost)


def problems_of_entry(root: Path, newest: str | None) -> Iterator[str]:
    entry = sections(unreleased(read(root, "CHANGELOG.md")))
    for title in SECTIONS:
        if not entry.get(title):
            yield f'The entry [Unreleased] of CHANGELOG.md lacks "### {title}"; say "Nothing." where that is so.'
    if newest:
        for title, path, name in (("Settings", SETTINGS, _SETTING), ("Dependencies", DEPENDENCIES, _DEPENDENCY)):
            moved = {*name.findall(show(root, newest, path))} ^ {*name.findall(read(root, path))}
            for unsaid in sorted(moved - set(re.findall(r"[\w-]+", entry.get(title, "")))):
                yield f'{unsaid} was added or removed, but "### {title}" of CHANGELOG.md does not name it.'


def unreleased(changelog: str) -> str:
    found = re.search(r"(?ms)^## \[Unreleased\]\n(.*?)(?=^## \[|\Z)", changelog)
    return found[1] if found else ""


def sections(entry: str) -> dict[str, str]:
    parts = re.split(r"(?m)^### (.+)\n", entry)[1:]
    return {title.strip(): text.strip() for title, text in zip(parts[::2], parts[1::2], strict=True)}


def changed_migrations(root: Path, commit: str) -> list[str]:
    """Lists migrations that changed since the commit: databases have run them already, and never run them again."""
    there = git(root, "ls-tree", "-r", "-z", commit, "--", MIGRATIONS).split("\0")[:-1]
    released = {path: line.split()[2] for line, _, path in (entry.partition("\t") for entry in there)}
    return sorted(path for path, blob in released.items() if blob != _blob(root, path))


def _blob(root: Path, path: str) -> str:
    return git(root, "hash-object", "--no-filters", "--", path).strip() if (root / path).is_file() else ""


def lost_answers(root: Path, commit: str) -> Iterator[str]:
    """Yields the questions and choices that projects may have answered with, and that changed or are gone."""
    before, now = yaml.safe_load(show(root, commit, "copier.yml")), yaml.safe_load(read(root, "copier.yml"))
    for name, question in before.items():
        if name.startswith("_"):
            continue
        if name not in now:
            yield f"The question {name} is gone"
        elif _kind(question) != _kind(now[name]):
            yield f"The question {name} is of another kind"
        else:
            yield from (f"{name} no longer has the choice {choice}" for choice in _lost(question, now[name]))


def lost_paths(root: Path, commit: str) -> Iterator[str]:
    """Yields files that an update would delete in projects, where they may be edited, but for those in moves.yml."""
    before = _paths(git(root, "ls-tree", "-r", "-z", "--name-only", commit, "--", TEMPLATE))
    now = _paths(git(root, "ls-files", "-z", "--", TEMPLATE))
    moves = moved_since(root, commit)
    yield from (f"The file {path} is gone" for path in sorted(before - now - moves.gone) if moves.path(path) not in now)


def moved_since(root: Path, commit: str) -> Moves:
    text = read(root, LIST) if (root / LIST).is_file() else ""
    return read_moves(text, known=show(root, commit, LIST))


def _paths(listed: str) -> set[str]:
    """Returns the paths as a project has them."""
    return {path.removeprefix(f"{TEMPLATE}/").removesuffix(".jinja") for path in listed.split("\0") if path}


def _kind(question: dict[str, Any]) -> tuple[Any, bool]:
    return question["type"], question.get("multiselect", False)


def _lost(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [choice for choice in choices(before) if choice not in choices(now)] if "choices" in now else []


def choices(question: dict[str, Any]) -> list[str]:
    found = question.get("choices", [])
    return list(found.values() if isinstance(found, dict) else found)


def make(root: Path, version: str, unproven: Sequence[str] = ()) -> None:
    """Makes the release's commit and tag. Raises ReleaseError, with every reason, before anything is written."""
    if found := list(problems(root, version, unproven)):
        raise ReleaseError("\n".join(found))
    today = datetime.now(UTC).date().isoformat()
    begun = f"## [Unreleased]\n\n{NOTHING_YET}## [{version}] - {today}\n"
    _replace(root / "CHANGELOG.md", r"(?m)^## \[Unreleased\]\n", begun)
    _replace(root / "pyproject.toml", VERSION.pattern, f'version = "{version}"')
    _name_moves(root / LIST, version)
    git(root, "add", "--update", ".")
    git(root, "commit", "--quiet", f"--message=Release {version}")
    git(root, "tag", "--annotate", f"--message=Release {version}", f"v{version}")


def _name_moves(path: Path, version: str) -> None:
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"(?m)^Unreleased:", f"{version}:", text), encoding="utf-8")


def _replace(path: Path, pattern: str, text: str) -> None:
    replaced, count = re.subn(pattern, text, path.read_text(encoding="utf-8"), count=1)
    if count != 1:
        raise ReleaseError(f"{path.name} has no line like {pattern}.")
    path.write_text(replaced, encoding="utf-8")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("Name the version: uvx nox -s release -- 1.2.0", file=sys.stderr)
        return 1
    try:
        make(ROOT, arguments[0], deep.missing(ROOT))
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Released {arguments[0]}. Publish it: git push --follow-tags")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
