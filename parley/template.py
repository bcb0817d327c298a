"""Reads the template that this project was made from: its releases, and what it renders."""

import re
import shlex
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import copier
import yaml
from copier.errors import CopierError

from parley.errors import ParleyError
from parley.git import GitError, few, git
from parley.moves import LIST, Moves, read_moves

ANSWERS_FILE = ".copier-answers.yml"
NEWEST = "latest"
_RELEASE = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-\d+-g[0-9a-f]+)?\Z")
_COMMIT = re.compile(r"[0-9a-f]{7,40}\Z")
_NUMBER = re.compile(r'(?m)^version = "(.+)"$')
_CHECKSUM = re.compile(r"(?m)^# Checksum: (\w+)$")
_ALIASES = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/", "git+": ""}

Answers = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """Holds what a project's answers file records of its template."""

    source: str
    version: str
    answers: Answers
    checksum: str

    @property
    def address(self) -> str:
        """Returns the source as an address that git understands."""
        for alias, address in _ALIASES.items():
            if self.source.startswith(alias):
                return address + self.source.removeprefix(alias)
        return str(Path(self.source).expanduser()) if self.source.startswith("~") else self.source

    @property
    def command(self) -> str:
        """Returns how the project's own command is called."""
        return f"uv run {self.answers.get('project_slug', 'python -m app.cli')}"

    @property
    def features(self) -> list[str]:
        found: list[str] = self.answers.get("features", [])
        return found if isinstance(found, list) else []  # pyright: ignore[reportUnnecessaryIsInstance]


def read_origin(folder: Path) -> Origin:
    """Reads a project's answers file. Raises ParleyError if it does not name the template, or its version."""
    path = folder / ANSWERS_FILE
    text, recorded = _load(path)
    source, version = recorded.get("_src_path"), recorded.get("_commit")
    if not isinstance(source, str) or not source:
        raise ParleyError(f"{path} does not say where the template is: it lacks `_src_path`.")
    if not isinstance(version, str) or not version:
        raise ParleyError(
            f"{path} does not say which version of the template this was made from: it lacks `_commit`, "
            "because the template was in no git repository. Name the version there, and commit that."
        )
    answers = {name: value for name, value in recorded.items() if not name.startswith("_")}
    return Origin(source, version, answers, _checksum(text))


def _load(path: Path) -> tuple[str, Answers]:
    advice = f"restore it with `git restore {shlex.quote(str(path))}`"
    try:
        text = path.read_text(encoding="utf-8")
        recorded = yaml.safe_load(text)
    except FileNotFoundError:
        raise ParleyError(f"There is no {path}, which names the template: nothing can be updated.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ParleyError(f"{path} cannot be read ({_last_line(error)}): {advice}.") from None
    if not isinstance(recorded, dict) or not all(isinstance(name, str) for name in cast("dict[Any, Any]", recorded)):
        raise ParleyError(f"{path} is not a list of answers: {advice}.")
    return text, cast(Answers, recorded)


def _checksum(text: str) -> str:
    found = _CHECKSUM.search(text)
    return found[1] if found else ""


def numbers(version: str) -> tuple[int, ...]:
    """Returns the numbers of a release, or of a commit after it, for comparisons; () for any other version."""
    found = _RELEASE.match(version)
    return tuple(int(number) for number in found.groups()) if found else ()


def called(version: str) -> str:
    """Describes a version of a template that is not at hand; `Template.name` knows more."""
    return f"{'commit' if _COMMIT.match(version) else 'version'} {version}"


def newest(releases: Sequence[str]) -> str | None:
    return max(releases, key=numbers, default=None)


@contextmanager
def opened(origin: Origin) -> Generator["Template"]:
    """Clones the template's repository, and deletes the clone at the end. Raises ParleyError if it is unreachable."""
    with TemporaryDirectory(prefix="template-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch).resolve() / "template"
        try:
            git(Path.cwd(), "clone", "--quiet", "--no-checkout", "--", origin.address, str(folder))
        except GitError as error:
            raise ParleyError(
                f"The template {origin.source} cannot be reached ({error}): "
                f"`_src_path` in {ANSWERS_FILE} says where it is."
            ) from None
        yield Template(origin, folder)


class Template:
    """Reads the template's history from a clone, and renders projects beside that."""

    def __init__(self, origin: Origin, folder: Path) -> None:
        self._origin = origin
        self._folder = folder

    @property
    def releases(self) -> list[str]:
        return [tag for tag in git(self._folder, "tag").split() if numbers(tag)]

    def commit(self, version: str) -> str:
        """Returns the commit of a version. Raises ParleyError if the template does not have it."""
        try:
            name = version + "^{commit}"
            return git(self._folder, "rev-parse", "--verify", "--quiet", "--end-of-options", name).strip()
        except GitError:
            raise ParleyError(
                f"This project was made from {called(version)}, which {self._origin.source} does not have. "
                f"Name the nearest that it has as `_commit` in {ANSWERS_FILE}, commit that, and try again."
            ) from None

    def find(self, version: str | None) -> str:
        """Returns the release of this name; without one the newest, or else the newest commit. Raises ParleyError."""
        releases = self.releases
        if version in (None, NEWEST):
            return newest(releases) or git(self._folder, "describe", "--tags", "--always", "HEAD").strip()
        for release in releases:
            if release.removeprefix("v") == version.removeprefix("v"):
                return release
        if not releases:
            raise ParleyError(f"{self._origin.source} has no releases: leave --to out to go to its newest commit.")
        known = few(sorted(releases, key=numbers, reverse=True))
        raise ParleyError(f"There is no release {version} of {self._origin.source}; available: {known}.")

    def number(self, version: str) -> str:
        """Returns the number of a release, or the one in the pyproject.toml of a commit without a tag, else ""."""
        if numbers(version):
            return version
        found = _NUMBER.search(self.read(version, "pyproject.toml"))
        return found[1] if found else ""

    def name(self, version: str) -> str:
        """Describes a version: by its tag, or by the number in its pyproject.toml and its commit."""
        number = self.number(version)
        return f"{number} (commit {version})" if number not in {"", version} else version

    def is_older(self, version: str, than: str) -> bool:
        """Returns whether a version comes before another one, by number or else by history."""
        if numbers(version) and numbers(than) and numbers(version) != numbers(than):
            return numbers(version) < numbers(than)
        one, other = self.commit(version), self.commit(than)
        return one != other and one == git(self._folder, "merge-base", one, other).strip()

    def read(self, version: str, path: str) -> str:
        """Returns a file of the template itself; "" if it has none of that name."""
        try:
            return git(self._folder, "show", f"{self.commit(version)}:{path}")
        except GitError:
            return ""

    def moves(self, old: str, new: str) -> Moves:
        """Returns what moved from one version to another. Raises ParleyError."""
        return read_moves(self.read(new, LIST), known=self.read(old, LIST))

    def configuration(self, version: str) -> Mapping[str, Any]:
        return yaml.safe_load(self.read(version, "copier.yml")) or {}

    def render(self, version: str, answers: Answers, exclude: Sequence[str] = (), *, completes: bool = False) -> Path:
        """Renders a project, without the user's work, to a new folder. Raises ParleyError if an answer is not valid.

        `completes` treats answers as Copier does in an update: one that is not valid any more becomes the default.
        """
        folder = Path(self._folder.parent, f"rendered-{len(list(self._folder.parent.iterdir()))}")
        if completes:
            folder.mkdir()
            (folder / ANSWERS_FILE).write_text(yaml.safe_dump(answers, allow_unicode=True), encoding="utf-8")
        with plain_errors(f"The answers in {ANSWERS_FILE} do not suit version {self.name(version)} of the template"):
            copier.run_copy(
                str(self._folder),
                folder,
                # The README must name the template's source, not this clone.
                data={**({} if completes else answers), "template_source": self._origin.source},
                vcs_ref=self.commit(version),
                exclude=exclude,
                defaults=True,
                overwrite=completes,
                quiet=True,
            )
        return folder


@contextmanager
def plain_errors(what: str) -> Generator[None]:
    """Turns errors of Copier into a ParleyError that begins with `what`."""
    try:
        yield
    except (CopierError, OSError, TypeError, ValueError) as error:
        raise ParleyError(f"{what}: {_last_line(error).rstrip('.')}.") from None


def names(folder: Path) -> set[str]:
    """Lists the files of a rendered project, but for its answers file."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found - {ANSWERS_FILE}


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
