"""Updates a project to a newer release of its template, or to another set of features."""

import re
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import copier
import typer

from parley.apply import apply
from parley.errors import ParleyError
from parley.following import Followed
from parley.git import GitError, check_out, check_repository, check_tree, git, lines, marked_files
from parley.imports import unresolved
from parley.plan import compare, features_of, followed_moves, switched
from parley.template import ANSWERS_FILE, NEWEST, Answers, Origin, Template, numbers, opened, plain_errors, read_origin

BACK = ("git restore --source=HEAD --staged --worktree -- .", "git clean --force -d -- .")
"""Undoes an update. The first command restores .gitignore, so that the second spares what that ignores."""

_NOTES = re.compile(r"^## \[([^\]]+)\].*?(?=^## \[|^\[[^\]]+\]:|\Z)", re.MULTILINE | re.DOTALL)
_BY_HAND = re.compile(r"^### By hand\n+(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)

app = typer.Typer()


@app.command()
def update(
    to: Annotated[str | None, typer.Option(metavar="VERSION", help="A release of the template, or `latest`.")] = None,
    on: Annotated[list[str] | None, typer.Option("--with", metavar="FEATURE", help="Switch a feature on.")] = None,
    off: Annotated[list[str] | None, typer.Option("--without", metavar="FEATURE", help="Switch a feature off.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Brings the template's improvements into this project; what you wrote stays.

    Without options it goes to the newest release, or to the newest commit where the template has no tags. With --with
    or --without alone, it stays at its version and switches features. What would happen is shown first, and nothing
    is done before you agree.
    """
    root = Path.cwd().resolve()
    check_tree(root)
    origin = read_origin(root)
    with opened(origin) as template:
        version, changes = _choose(origin, template, to, on or [], off or [])
        if template.commit(version) == template.commit(origin.version) and not changes:
            typer.echo(f"The project is at {template.name(version)} of {origin.source}{_no_more(to)}")
            return
        old, new = template.name(origin.version), template.name(version)
        step = _Step(old, new, "".join(_switches(on or [], off or [])))
        if step.moves and not template.releases:
            typer.echo(f"{origin.source} has no tags, and so no releases: this goes to its newest commit.")
        typer.echo(f"{step.way} of {origin.source}{step.switches}:\n")
        plan, followed = compare(root, origin, template, version, changes)
        typer.echo("\n".join(plan.describe()))
        _say_what_becomes_of_tables(origin.command, off or [])
        _say_the_way_back(root)
        if not _is_wanted(yes):
            typer.echo("Nothing was changed.")
            return
        _run(root, template.commit(version), changes, followed)
        changelog = template.read(version, "CHANGELOG.md")
        notes = by_hand(changelog, template.number(origin.version), template.number(version))
        _say_what_is_next(root, origin, step, notes)
        _say_what_is_left(root, followed)
        if step.moves:
            typer.echo(f"What is new: {notes_of(origin, version)}")


@app.command()
def finish() -> None:
    """Moves your edits to where `copier update` has moved files, and renames what your own files import.

    It may be run before the update is committed or afterwards, and again: what is done already is left as it is.
    """
    root = Path.cwd().resolve()
    check_repository(root)
    now = read_origin(root)
    commit = _before(root, now)
    with TemporaryDirectory(prefix="project-", ignore_cleanup_errors=True) as scratch, opened(now) as template:
        before = Path(scratch).resolve() / "before"
        check_out(root, commit, before)
        then = read_origin(before)
        old, new = template.render(then.version, then.answers), template.render(now.version, now.answers)
        own = [name for name in lines(root, "ls-tree", "-r", "-z", "--name-only", commit) if _is_plain(before / name)]
        followed = followed_moves(before, own, (old, new), template.moves(then.version, now.version))
        written = apply(root, followed)
    names = [f"  {name}" for name in written]
    typer.echo(
        "\n".join(["Updated these files:", *names])
        if names
        else "All files are up to date: what you wrote is where the template has it now."
    )
    _say_what_is_left(root, followed)


def _before(root: Path, now: Origin) -> str:
    """Returns the last commit with other answers than the project has now. Raises ParleyError."""
    for commit in ["HEAD", *git(root, "log", "--format=%H", "--", ANSWERS_FILE).split()]:
        for candidate in (commit, f"{commit}^"):
            try:
                text = git(root, "show", f"{candidate}:./{ANSWERS_FILE}")
            except GitError:
                continue
            if text.split() != (root / ANSWERS_FILE).read_text(encoding="utf-8").split():
                return git(root, "rev-parse", candidate).strip()
    raise ParleyError("This project was never updated: there is no update to finish.")


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


@dataclass(frozen=True)
class _Step:
    """Describes an update: from which version to which, and which features it switches."""

    old: str
    new: str
    switches: str

    @property
    def moves(self) -> bool:
        return self.old != self.new

    @property
    def way(self) -> str:
        return f"From {self.old} to {self.new}" if self.moves else f"At {self.new}"

    @property
    def title(self) -> str:
        """Returns the title of the update's commit."""
        return f"{'Update the template to' if self.moves else 'Stay at'} {self.new}{self.switches}"


def _switches(on: list[str], off: list[str]) -> Iterator[str]:
    yield from (f", with {feature}" for feature in on)
    yield from (f", without {feature}" for feature in off)


def _no_more(to: str | None) -> str:
    return ": there is nothing newer." if to in (None, NEWEST) else " already."


def _choose(origin: Origin, template: Template, to: str | None, on: list[str], off: list[str]) -> tuple[str, Answers]:
    """Returns the version to go to, and the answers to change. Raises ParleyError."""
    template.commit(origin.version)
    version = template.find(to) if to or not (on or off) else origin.version
    if template.is_older(version, origin.version):
        there, here = template.name(version), template.name(origin.version)
        raise ParleyError(f"{there} is older than {here}, which the project has: updates only go forward.")
    return version, switched(origin, features_of(template.configuration(version)), on, off)


def _say_what_becomes_of_tables(command: str, off: list[str]) -> None:
    if not off:
        return
    names = " ".join(f"{feature}@base" for feature in off)
    typer.echo(
        f"The database keeps the tables of {', '.join(off)} and their rows. If they are to go, answer no, run "
        f"`{command} db downgrade {names}` where the data may be lost, and come back."
    )


def _say_the_way_back(root: Path) -> None:
    typer.echo(f"Until you commit, these undo the whole update, even one that was interrupted, in {root}:")
    for command in BACK:
        typer.echo(f"  {command}")


def _is_wanted(yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ParleyError(
            "Nothing was changed: there is no terminal to ask at. Run it again with --yes to update without a question."
        )
    return typer.confirm("Update?")


def _run(root: Path, commit: str, changes: Answers, followed: Followed) -> None:
    with _half_way(root), plain_errors("Copier could not update the project"):
        copier.run_update(root, data=changes, vcs_ref=commit, defaults=True, overwrite=True, quiet=True)
        apply(root, followed)


@contextmanager
def _half_way(root: Path) -> Generator[None]:
    try:
        yield
    except BaseException:
        typer.echo(f"The update did not finish. Undo it, in {root}: {' && '.join(BACK)}", err=True)
        raise


def _say_what_is_next(root: Path, origin: Origin, step: _Step, notes: Iterator[str]) -> None:
    typer.echo(f"\nThe project is at {step.new}{step.switches}.")
    if conflicts := marked_files(root):
        typer.echo("Settle the conflicts between <<<<<<< and >>>>>>> first, in " + ", ".join(conflicts))
    for note in notes:
        typer.echo(f"To do by hand:\n{note}")
    typer.echo(
        "Next:\n"
        "  git status                     look at what came and went\n"
        "  git diff HEAD                  look at what changed\n"
        "  uv sync                        install what it needs\n"
        f"  {origin.command + ' db upgrade':<31}bring the database up to date\n"
        "  uv run pytest                  run the tests\n"
        f"  git add . && git commit -m '{step.title}'"
    )


def _say_what_is_left(root: Path, followed: Followed) -> None:
    if followed.members:
        typer.echo(
            "Uses of renamed methods and attributes are left as they are; `uv run pyright` names where you use "
            f"{', '.join(followed.members)}."
        )
    left = [*followed.notes, *unresolved(root, followed.own, ("app", "tests"))]
    if left:
        typer.echo("\n".join(["Left for you to do:", *(f"  {note}" for note in dict.fromkeys(left))]))


def by_hand(changelog: str, old: str, new: str) -> Iterator[str]:
    """Yields what users have to do by hand, by the changelog of the releases after the old version up to the new."""
    for entry in reversed(list(_NOTES.finditer(changelog))):
        if numbers(old) < numbers(entry[1]) <= numbers(new):
            for found in _BY_HAND.finditer(entry[0]):
                if found[1].strip() != "Nothing.":
                    yield found[1].strip()


def notes_of(origin: Origin, version: str) -> str:
    address = origin.address.removesuffix(".git")
    if address.startswith("https://"):
        return f"{address}/blob/{version}/CHANGELOG.md"
    return f"CHANGELOG.md in {origin.source}"
