"""Runs `parley`, the command of the template that this project was made from."""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import SetupError

ANSWERS_FILE = ".copier-answers.yml"
_ALIASES = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/", "git+": ""}
_OF_SSH = re.compile(r"\A([\w.-]+@[\w.-]+):(?!//)(.+)")
_DESCRIBED = re.compile(r"\A.*-\d+-g(?=[0-9a-f]+\Z)")
"""Matches what `git describe` puts before the hash of a commit: the last tag and the distance to it."""
_FATAL = re.compile(r"(?m)^fatal: (.+?)\.?$")
_RELEASE = re.compile(r"(?m)^\w+\trefs/tags/(v?(\d+)\.(\d+)\.(\d+))$")


def run_parley(*arguments: str, as_made: bool = False) -> int:
    """Runs `parley` here: the newest release, or with `as_made` the one that this project was made from.

    Returns its exit status. Raises SetupError when the template or a program is not there.
    """
    from app.core.config import ROOT

    origin = read_origin(ROOT)
    package = _package(origin, as_made=as_made)
    command = [_program("uvx"), "--quiet", "--from", package, "parley", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - uv alone, and without a shell


@dataclass(frozen=True)
class Origin:
    """Names where the template is, and its version, as Copier recorded them."""

    source: str
    version: str


def read_origin(root: Path) -> Origin:
    """Reads the origin from the answers file. Raises SetupError when it is not there or not readable."""
    import yaml

    path = root / ANSWERS_FILE
    advice = f"restore it with `git restore {shlex.quote(str(path))}`"
    try:
        recorded: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Origin(str(recorded["_src_path"]), str(recorded.get("_commit", "")))
    except FileNotFoundError:
        raise SetupError(f"There is no {path}, which names the template: {advice}.") from None
    except (OSError, TypeError, ValueError, KeyError, yaml.YAMLError):
        raise SetupError(f"{path} does not say where the template is: {advice}.") from None


def _package(origin: Origin, *, as_made: bool) -> str:
    """Returns what uv installs: a folder as it is, or one version of a repository."""
    if (folder := Path(origin.source).expanduser()).is_dir():
        return str(folder)
    repository = address(origin.source)
    known = _references(repository)
    if as_made and origin.version:
        return f"git+{repository}@{_DESCRIBED.sub('', origin.version)}"
    releases = _RELEASE.findall(known)
    newest = max(releases, key=lambda found: tuple(map(int, found[1:])), default=known.split("\t"))
    return f"git+{repository}@{newest[0]}"


def address(source: str) -> str:
    """Returns the URL of a repository, as git and uv both understand it."""
    for alias, whole in _ALIASES.items():
        if source.startswith(alias):
            source = whole + source.removeprefix(alias)
    return _OF_SSH.sub(r"ssh://\1/\2", source)


def _references(repository: str) -> str:
    """Returns what `git ls-remote` prints: a line for each reference, of which HEAD is the first."""
    command = [_program("git"), "ls-remote", "--", repository]
    plain = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, env=plain, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    if done.returncode != 0 or not done.stdout:
        why = _FATAL.search(done.stderr)
        raise SetupError(
            f"The template {repository} cannot be reached ({why[1] if why else 'it has no commit'}): "
            f"`_src_path` in {ANSWERS_FILE} says where it is."
        )
    return done.stdout


def _program(name: str) -> str:
    if not (found := shutil.which(name)):
        package = name.removesuffix("x")
        raise SetupError(f"This command needs {name}: install {package} first.")
    return found
