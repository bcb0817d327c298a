"""Makes a repository with a template of a few files, for tests of the scripts that make releases."""

import os
import shutil
from pathlib import Path

import pytest
import release
from processes import succeed

needs_git = pytest.mark.skipif(
    not shutil.which("git") and os.environ.get("REQUIRE_SERVICES") != "1", reason="git is not installed"
)
FILES = {
    "CHANGELOG.md": f"# Changelog\n\n## [Unreleased]\n\n### Added\n\n- All of it.\n\n{release.NOTHING_YET}",
    "pyproject.toml": '[project]\nname = "small"\nversion = "0.1.0.dev0"\n',
    "copier.yml": "_subdirectory: template\nname: {type: str}\nkind: {type: str, choices: {One: one, Two: two}}\n",
    release.SETTINGS: "#OLD=1\n",
    release.DEPENDENCIES: '    "fastapi>=1",\n',
    f"{release.MIGRATIONS}/base/base_0001_start.py": "revision = 1\n",
    "template/README.md.jinja": "# {{ name }}\n",
    "template/compose.yaml.jinja": "name: {{ name }}\n",
}


def git(root: Path, *arguments: str) -> str:
    return succeed("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", *arguments, cwd=root)


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=work")


def make_small(folder: Path) -> Path:
    git(folder, "init", "--quiet")
    for name, text in FILES.items():
        write(folder, name, text)
    commit(folder)
    return folder
