"""Tests commands that the template provides for all projects, and that a project only calls."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.cli._template import address
from tests.integration.conftest import InProcess

PROGRAM = "#!/bin/sh\nprintf '%s\\n' \"$@\" > asked.txt\nexit ${STATUS:-0}\n"
"""Replaces `uvx`, which would install what it is asked for, and writes its arguments to a file."""


@dataclass
class Following:
    project: InProcess
    path: str

    def made_from(self, source: str, version: str = "v0.1.0") -> None:
        text = f"_commit: {version}\n_src_path: '{source}'\n"
        (self.project.folder / ".copier-answers.yml").write_text(text)

    def asked(self, *arguments: str) -> list[str]:
        """Returns the arguments with which `uvx` was called."""
        self.project.succeed(*arguments, PATH=self.path)
        return (self.project.folder / "asked.txt").read_text().splitlines()


@pytest.fixture
def following(in_process: InProcess, tmp_path: Path) -> Following:
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "uvx").write_text(PROGRAM)
    (tmp_path / "programs" / "uvx").chmod(0o755)
    return Following(in_process, f"{tmp_path / 'programs'}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Makes a git repository with one commit."""
    if not shutil.which("git") and os.environ.get("REQUIRE_SERVICES") != "1":
        pytest.skip("git is not installed")
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "--message=begun")
    return folder


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_a_template_on_this_machine_is_taken_as_it_is(following: Following, tmp_path: Path) -> None:
    following.made_from(str(tmp_path))
    told = ["--quiet", "--from", str(tmp_path), "parley"]
    assert following.asked("update", "--yes", "--to", "1.0.0") == [*told, "update", "--yes", "--to", "1.0.0"]
    assert following.asked("new", "slice", "ticket", "due:date?") == [*told, "new", "slice", "ticket", "due:date?"]
    assert following.asked("update", "--help") == [*told, "update", "--help"]


def test_of_a_repository_it_is_the_newest_release(following: Following, repository: Path) -> None:
    following.made_from(f"file://{repository}")
    head = git(repository, "rev-parse", "HEAD").strip()
    assert following.asked("update")[2] == f"git+file://{repository}@{head}"
    for tag in ("v0.9.0", "v0.10.0", "v1.0.0rc1", "latest"):
        git(repository, "tag", "--annotate", f"--message={tag}", tag)
    assert following.asked("update")[2] == f"git+file://{repository}@v0.10.0"


@pytest.mark.parametrize(
    ("version", "taken"), [("v0.3.0", "v0.3.0"), ("v0.3.0-12-g499ba08", "499ba08"), ("499ba08", "499ba08")]
)
def test_new_is_of_the_release_that_the_project_was_made_from(
    following: Following, repository: Path, version: str, taken: str
) -> None:
    """Uses that release since its modules are where the project has them."""
    following.made_from(f"file://{repository}", version)
    assert following.asked("new", "slice", "ticket")[2] == f"git+file://{repository}@{taken}"


@pytest.mark.parametrize(
    ("source", "whole"),
    [
        ("gh:team/parley", "https://github.com/team/parley"),
        ("gl:team/parley.git", "https://gitlab.com/team/parley.git"),
        ("git+https://example.com/parley.git", "https://example.com/parley.git"),
        ("git@example.com:team/parley.git", "ssh://git@example.com/team/parley.git"),
        ("ssh://git@example.com:22/parley.git", "ssh://git@example.com:22/parley.git"),
        ("https://ada@example.com/parley.git", "https://ada@example.com/parley.git"),
    ],
)
def test_addresses_that_git_and_uv_both_understand(source: str, whole: str) -> None:
    assert address(source) == whole


def test_its_exit_status_is_the_commands(following: Following, tmp_path: Path) -> None:
    following.made_from(str(tmp_path))
    for status in (0, 1, 130):
        assert following.project.run("update", PATH=following.path, STATUS=str(status)).returncode == status


def test_the_doctor_asks_the_template_only_when_told_to(following: Following, migrated_file: Path) -> None:
    project = following.project
    shutil.copy(migrated_file, project.folder / "app.db")
    (project.folder / ".env").write_text("SECRET_KEY=\n")
    following.made_from(str(project.folder))
    project.succeed("doctor", PATH=following.path)
    assert not (project.folder / "asked.txt").exists()
    assert following.asked("doctor", "--template")[-2:] == ["parley", "doctor"]
    assert project.run("doctor", "--template", PATH=following.path, STATUS="1").returncode == 1


def test_what_is_missing_is_a_sentence(following: Following, tmp_path: Path) -> None:
    project, answers = following.project, following.project.folder / ".copier-answers.yml"
    advice = f"restore it with `git restore {answers}`"
    assert project.fail("update") == f"There is no {answers}, which names the template: {advice}."
    for text in ("", "- a list\n", "_commit: v0.1.0\n", "_src_path: [\n"):
        answers.write_text(text)
        assert project.fail("update") == f"{answers} does not say where the template is: {advice}."
    following.made_from(str(tmp_path))
    assert project.fail("new", PATH="") == "This command needs uvx: install uv first."
    following.made_from(f"file://{tmp_path}/nowhere")
    for command in ("update", "new"):
        assert project.fail(command, PATH=following.path) == (
            f"The template file://{tmp_path}/nowhere cannot be reached ('{tmp_path}/nowhere' does not appear to be "
            "a git repository): `_src_path` in .copier-answers.yml says where it is."
        )
