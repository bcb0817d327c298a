"""Makes a small template with three releases, and projects from it.

Its Jinja uses square brackets and builds `_copier_answers` from parts, so that no check takes this file for a template.
"""

import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

import copier
import pytest
from processes import parley
from releases import commit, git

from parley.cli import main

COPIER = "_copier"
QUESTIONS = """
_subdirectory: template
_envops: {block_start_string: "[%", block_end_string: "%]", variable_start_string: "[[", variable_end_string: "]]"}
project_slug: {type: str, default: my-bot}
colour: {type: str, default: red, choices: [red, green]}
features:
  type: str
  multiselect: true
  default: [bell]
  choices: {A bell: bell, A wheel: wheel}
_exclude:
  - .git
  - |
    [% if 'bell' not in features %]
    alembic/versions/bell
    app/services/bell.py
    [% endif %]
    [% if 'wheel' not in features %]
    app/services/wheel.py
    [% endif %]
"""
ANSWERS = f"""# Checksum: [[
  {COPIER}_answers | dictsort | rejectattr(0, 'in', ['_commit', '_src_path']) | list | to_json | checksum
]]
[[ {COPIER}_answers | to_nice_yaml -]]
""".replace("[[\n  ", "[[ ").replace("\n]]", " ]]")
SOURCE = f"Made from [[ template_source | default({COPIER}_answers._src_path) ]]\n"
BELL = '''"""a bell"""

revision = "bell_0001"
down_revision = None
branch_labels = ("bell",)
depends_on = "base_0001"


def upgrade() -> None:
    pass
'''
LINES = [f"line {number}\n" for number in range(1, 31)]
CHANGELOG = """# Changelog

## [0.3.0] - 2026-03-01

### By hand

Nothing.

## [0.2.0] - 2026-02-01

### Added

- A speed.

### By hand

- Oil the wheel.

## [0.1.0] - 2026-01-01
"""
FIRST: dict[str, str] = {
    "copier.yml": QUESTIONS,
    "CHANGELOG.md": CHANGELOG,
    "template/.copier-answers.yml.jinja": ANSWERS,
    "template/.env.example": "SECRET_KEY=\n#OLD_SETTING=1\n",
    "template/.gitignore": "__pycache__/\n*.db\n*.db-*\n.env\n",
    "template/alembic/versions/bell/bell_0001_a_bell.py": BELL,
    "template/app/services/bell.py": "SOUND = 'ding'\n",
    "template/app/services/wheel.py": "SPOKES = 12\n",
    "template/docs/old.md": "old\n",
    "template/guide.md": "".join(LINES),
    "template/source.md.jinja": SOURCE,
}
SECOND = {
    "copier.yml": QUESTIONS + "speed: {type: int, default: 3}\n",
    "template/.env.example": "SECRET_KEY=\n#NEW_SETTING=1\n",
    "template/docs/new.md": "new\n",
    "template/docs/old.md": "",
    "template/guide.md": "".join(["line one\n", *LINES[1:]]),
}
THIRD = {"template/guide.md": "".join(["line one\n", *LINES[1:-1], "the last line\n"])}


def release(folder: Path, version: str, files: dict[str, str]) -> None:
    """Writes the files of a release, commits them and tags it. An empty text removes its file."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text) if text else path.unlink()
    commit(folder, version)
    git(folder, "tag", version)


def make_template(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "--quiet")
    for version, files in (("v0.1.0", FIRST), ("v0.2.0", SECOND), ("v0.3.0", THIRD)):
        release(folder, version, {**files, "pyproject.toml": f'[project]\nversion = "{version.removeprefix("v")}"\n'})
    return folder


def adopt(folder: Path, template: Path, version: str = "v0.1.0") -> "Made":
    """Renders a release into a folder, and commits all that is in it."""
    copier.run_copy(str(template), folder, vcs_ref=version, defaults=True, overwrite=True, quiet=True)
    git(folder, "init", "--quiet")
    commit(folder)
    return Made(folder)


class Keyboard(StringIO):
    """Stands for the keyboard of a person at a terminal: `isatty` is true, so the command asks its questions."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Made:
    """Runs `parley` in a project of the template: in the process of the test, or in one that can be killed."""

    folder: Path

    def run(self, *arguments: str, typed: str | None = None, **variables: str) -> CompletedProcess[str]:
        """Runs `parley` in this process; `typed` is what a person enters, and None means that there is no terminal."""
        out, errors = StringIO(), StringIO()
        entered = self._entered(arguments, typed, variables)
        with entered, redirect_stdout(out), redirect_stderr(errors), pytest.raises(SystemExit) as ended:
            main()
        return CompletedProcess(arguments, int(ended.value.code or 0), out.getvalue(), errors.getvalue())

    @contextmanager
    def _entered(self, arguments: tuple[str, ...], typed: str | None, variables: dict[str, str]) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch, mock.patch.dict("os.environ", variables), chdir(self.folder):
            patch.setattr(sys, "argv", ["parley", *arguments])
            patch.setattr(sys, "stdin", StringIO() if typed is None else Keyboard(typed))
            yield

    def apart(self, *arguments: str, **variables: str) -> CompletedProcess[str]:
        return parley(*arguments, cwd=self.folder, **variables)

    def succeed(self, *arguments: str, typed: str | None = None, **variables: str) -> str:
        done = self.run(*arguments, typed=typed, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fail(self, *arguments: str, **variables: str) -> str:
        """Returns the one line on standard error that the command ended with."""
        done = self.run(*arguments, **variables)
        assert done.returncode == 1, done.stdout
        [line] = done.stderr.splitlines()
        return line
