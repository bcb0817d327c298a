"""Computes what an update would do to this project, by rendering the old and the new version of its template."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parley.errors import ParleyError
from parley.following import Followed, Sides, follow
from parley.git import few, lines, merge
from parley.migrations import dependents
from parley.moves import Moves, found_by_git
from parley.template import ANSWERS_FILE, Answers, Origin, Template, names, read_origin

SETTINGS = ".env.example"
EDITED = " with what you wrote"
_SETTING = re.compile(r"(?m)^#?([A-Z][A-Z0-9_]*)=")


@dataclass(frozen=True)
class Plan:
    """Lists files and settings by what the update would do to them."""

    changed: Sequence[str]
    added: Sequence[str]
    moved: Sequence[str]
    removed: Sequence[str]
    edited_and_removed: Sequence[str]
    in_need: Sequence[str]
    conflicts: Sequence[str]
    new_settings: Sequence[str]
    lost_settings: Sequence[str]
    new_answers: Sequence[str]

    def describe(self) -> Iterator[str]:
        for title, found in (
            ("Files that change", self.changed),
            ("Files that come", self.added),
            ("Files that move", self.moved),
            ("Files that go", self.removed),
            ("Files that go ALTHOUGH YOU EDITED THEM; git still has them afterwards", self.edited_and_removed),
            ("Files of yours that import what goes: change them afterwards", self.in_need),
            ("Conflicts to settle, because you and the template changed the same lines", self.conflicts),
            (f"New settings, explained in {SETTINGS}", self.new_settings),
            ("Settings that are gone", self.lost_settings),
            ("Answers that are new, or that this version completes", self.new_answers),
        ):
            if found:
                yield "\n".join([f"{title}:", *(f"  {name}" for name in found)])


def features_of(configuration: Mapping[str, Any]) -> list[str]:
    """Lists the features that a version of the template offers."""
    choices: dict[str, str] = configuration.get("features", {}).get("choices", {})
    return list(choices.values())


def switched(origin: Origin, offered: Sequence[str], on: Sequence[str], off: Sequence[str]) -> Answers:
    """Returns the answers with features switched; none if none are. Raises ParleyError if that is impossible."""
    for feature in [*on, *off]:
        if feature not in offered and not (feature in off and feature in origin.features):
            raise ParleyError(f"There is no feature {feature}; available: {', '.join(offered) or 'none'}.")
        if feature in on and feature in off:
            raise ParleyError(f"{feature} cannot be switched both on and off.")
        if (feature in origin.features) == (feature in on):
            raise ParleyError(f"{feature} is {'on' if feature in on else 'off'} already.")
    wanted = {*origin.features, *on} - set(off)
    return {**origin.answers, "features": [feature for feature in offered if feature in wanted]} if on or off else {}


def compare(project: Path, origin: Origin, template: Template, version: str, changes: Answers) -> tuple[Plan, Followed]:
    """Returns what would happen to the project, and the changes to apply after Copier's. Raises ParleyError."""
    old = template.render(origin.version, origin.answers)
    _check_answers(origin, read_origin(old), template.name(origin.version))
    known = {name: value for name, value in origin.answers.items() if name in template.configuration(version)}
    wanted = {**known, **changes}
    if changes:
        new = template.render(version, wanted)
    else:
        new, wanted = _completed(template, version, wanted)
    _check_kept_by_git(project, names(old) | names(new))
    answers = read_origin(new).answers
    _check_kept(wanted, answers, template.name(version))
    # As in Copier: files that the new version excludes by a rule are not deleted.
    kept = template.render(origin.version, origin.answers, exclude=template.configuration(version).get("_exclude", []))
    gone = names(kept) - names(new)
    followed = followed_moves(project, _kept(project), (old, new), template.moves(origin.version, version))
    if followed.blocked:
        raise ParleyError(
            f"The template has files of its own where you have {few(followed.blocked)}: give yours another name first, "
            "or switch off the feature that brings them with --without."
        )
    gone -= followed.moved.keys()
    _check_migrations(project, gone)
    asked = {name: value for name, value in answers.items() if value != {**origin.answers, **changes}.get(name)}
    return _plan(_Renders(project, old, new), gone, asked, followed), followed


def _completed(template: Template, version: str, answers: Answers) -> tuple[Path, Answers]:
    """Renders a project. Returns it and its answers: these, and the features that they need in this version."""
    try:
        return template.render(version, answers), answers
    except ParleyError:
        found = template.render(version, answers, completes=True)
        understood = read_origin(found).answers
        if not _are_kept(answers, understood):
            raise
        return found, understood


def _are_kept(answers: Answers, understood: Answers) -> bool:
    """Returns whether each answer is the same, or a list with more in it."""
    found = ((value, understood.get(name)) for name, value in answers.items())
    return all(
        set(value) <= set(now) if isinstance(value, list) and isinstance(now, list) else value == now
        for value, now in found
    )


def _check_answers(recorded: Origin, understood: Origin, version: str) -> None:
    """Raises ParleyError for answers that Copier would replace by defaults, which would lose files of theirs."""
    for name, value in recorded.answers.items():
        if name not in understood.answers:
            raise ParleyError(f"{ANSWERS_FILE} answers {name}, which version {version} does not ask.")
        if value != understood.answers[name]:
            raise ParleyError(
                f"{ANSWERS_FILE} answers {name} with {value!r}, of which version {version} understands "
                f"{understood.answers[name]!r}: restore the file with git."
            )
    if recorded.checksum != understood.checksum:
        raise ParleyError(
            f"The answers in {ANSWERS_FILE} were edited by hand, so that nobody can tell what was rendered: restore "
            f"them (`git log --patch {ANSWERS_FILE}` has them), and change features with --with and --without."
        )


def _check_kept_by_git(project: Path, of_template: set[str]) -> None:
    """Raises ParleyError for files that git does not track: Copier takes them for deleted, git cannot restore them."""
    there = {name for name in of_template if (project / name).is_file()}
    if loose := sorted(there.difference(lines(project, "ls-files", "-z", "--", "."))):
        raise ParleyError(
            f"Git ignores {few(loose)}, and an update would lose what you wrote there: change .gitignore or use "
            "`git add --force`, and commit first."
        )


def _check_migrations(project: Path, gone: set[str]) -> None:
    """Raises ParleyError if a revision depends on one that goes: no `db` command would work any more."""
    for needing, needed in dependents(project, gone):
        raise ParleyError(
            f"{needing} depends on the migration {needed}, which would go with its feature: "
            "as long as your tables refer to those of a feature, it has to stay on."
        )


def _check_kept(wanted: Answers, understood: Answers, version: str) -> None:
    for name, value in wanted.items():
        if name in understood and understood[name] != value:
            raise ParleyError(
                f"Version {version} does not know the answer {value!r} to {name} any more; it has {understood[name]!r}."
            )


@dataclass(frozen=True)
class _Renders:
    project: Path
    old: Path
    new: Path

    def changes(self, name: str) -> bool:
        """Returns whether the template changes a file, and the user did not change it in the same way."""
        return not _same(self.old / name, self.new / name) and not _same(self.project / name, self.new / name)

    def edited(self, name: str) -> bool:
        return not _same(self.old / name, self.project / name)

    def conflicts(self, name: str) -> bool:
        base = (self.old / name).read_bytes() if (self.old / name).is_file() else b""
        mine, theirs = ((folder / name).read_bytes() for folder in (self.project, self.new))
        return merge(self.old.parent, mine, base, theirs)[1] > 0


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def _plan(renders: _Renders, gone: set[str], new_answers: Answers, followed: Followed) -> Plan:
    project, before, after = renders.project, names(renders.old), names(renders.new)
    there = {name for name in before | after if (project / name).is_file()}
    removed = gone & there
    lost = {name for name in removed if renders.edited(name)}
    changed = {name for name in after & there if renders.changes(name)}
    settings, later = _settings(renders.old), _settings(renders.new)
    own = [name for name in _kept(project) if name not in before | after]
    return Plan(
        changed=[f"{name}{EDITED if renders.edited(name) else ''}" for name in sorted(changed)],
        added=sorted(after - before - there - {*followed.moved.values()}),
        moved=[_moved(name, there, followed) for name, there in sorted(followed.moved.items())],
        removed=sorted(removed - lost),
        edited_and_removed=sorted(lost),
        in_need=sorted(_naming(project, own, removed)),
        conflicts=sorted({*followed.conflicts, *_conflicts(renders, changed - followed.changes.keys())}),
        new_settings=[name for name in later if name not in settings],
        lost_settings=[name for name in settings if name not in later],
        new_answers=[f"{name} = {value}" for name, value in new_answers.items()],
    )


def _moved(name: str, there: str, followed: Followed) -> str:
    return f"{name} -> {there}{EDITED if name in followed.edited else ''}"


def _conflicts(renders: _Renders, changed: Iterable[str]) -> Iterator[str]:
    return (name for name in changed if renders.edited(name) and renders.conflicts(name))


def _kept(project: Path) -> list[str]:
    """Lists the plain files of the project that git tracks."""
    found = (name for name in lines(project, "ls-files", "-z", "--", ".") if not (project / name).is_symlink())
    return [name for name in found if (project / name).is_file()]


def followed_moves(before: Path, kept: Iterable[str], renders: tuple[Path, Path], listed: Moves) -> Followed:
    """Returns what has to be done for what moved. `before` is the project as it was; git tracks the files `kept`."""
    old, new = renders
    return follow(Sides(before, frozenset(kept), old, new, old.parent), found_by_git(old, new, listed))


def _settings(rendered: Path) -> list[str]:
    path = rendered / SETTINGS
    return _SETTING.findall(path.read_text(encoding="utf-8")) if path.is_file() else []


def _naming(project: Path, own: Iterable[str], removed: Iterable[str]) -> Iterator[str]:
    modules = [re.escape(name.removesuffix(".py").replace("/", ".")) for name in removed if name.endswith(".py")]
    mention = re.compile(rf"\b({'|'.join(modules)})\b" if modules else r"\Z.")
    for name in own:
        if name.endswith(".py") and mention.search((project / name).read_text(encoding="utf-8", errors="replace")):
            yield name
