"""Tests the script that updates many projects, on repositories of this machine."""

import shutil
import sys
from pathlib import Path

import pytest
from lives import IDENTITY, MARKER, Life, render
from processes import ROOT, run
from releases import HERE, LAST, change, commit, git, make_template

pytestmark = [pytest.mark.deep, pytest.mark.slow, pytest.mark.updates]


def test_each_project_gets_a_branch(tmp_path: Path) -> None:
    (tmp_path / "template").mkdir()
    template = make_template(tmp_path / "template")
    addresses = [project(template, tmp_path / name, version) for name, version in PROJECTS.items()]
    script = (sys.executable, ROOT / "scripts" / "update_projects.py", *addresses, str(tmp_path / "none"))
    told = {**IDENTITY, "PYTHONPATH": str(ROOT)}
    done = run(*script, cwd=tmp_path, **told)
    easy, hard, new = addresses
    assert done.returncode == 1
    assert f"{easy} has the new branch template-{LAST}. Without conflicts." in done.stdout
    assert f"{hard} has the new branch template-{LAST}. Conflicts to settle: README.md" in done.stdout
    assert f"{new} is at {LAST}, the newest version" in done.stdout
    assert f"{tmp_path / 'none'} could not be updated: " in done.stdout
    assert MARKER in git(Path(hard), "show", f"template-{LAST}:README.md")
    assert MARKER not in git(Path(easy), "show", f"template-{LAST}:README.md")
    again = run(*script[:3], cwd=tmp_path, **told)
    assert f"{easy} has the branch template-{LAST} already" in again.stdout


PROJECTS = {"easy": HERE, "hard": HERE, "new": LAST}


def project(template: Path, folder: Path, version: str) -> str:
    """Makes a project in a bare repository, to which branches can be pushed, and returns its address."""
    life = Life(render(template, folder, version, {}))
    life.begin()
    if folder.name == "hard":
        change(folder / "README.md", r"## Production\n", "## Production\n\nMine.\n")
        commit(folder)
    bare = folder.with_suffix(".git")
    git(folder, "clone", "--quiet", "--bare", str(folder), str(bare))
    shutil.rmtree(folder)
    return str(bare)
