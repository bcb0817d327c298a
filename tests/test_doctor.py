"""Tests what `parley doctor` says of a project and its template."""

from pathlib import Path

import pytest
from bells import Made, adopt, make_template
from releases import commit, git
from small import needs_git

pytestmark = needs_git


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("released") / "template")


@pytest.fixture
def made(template: Path, tmp_path: Path) -> Made:
    return adopt(tmp_path / "project", template)


def test_a_project_as_it_was_made(made: Made, template: Path) -> None:
    said = made.succeed("doctor")
    assert f"The project was made from version v0.1.0 of {template}.\n" in said
    assert "The template has a newer version, v0.3.0: run `uv run my-bot update`.\n" in said
    assert "Files that differ from the template's: none.\n" in said
    made.succeed("update", "--yes")
    assert "The template has no newer version.\n" in made.succeed("doctor")


def test_files_that_were_edited_or_deleted(made: Made) -> None:
    (made.folder / "app" / "services" / "bell.py").write_text("SOUND = 'dong'\n")
    (made.folder / "guide.md").write_text("mine\n")
    (made.folder / "docs" / "old.md").unlink()
    said = made.succeed("doctor")
    assert "Files that differ from the template's:\n  app/services/bell.py\n  guide.md\n" in said
    assert "Files of the template that you deleted:\n  docs/old.md\n" in said
    assert "files that go when their feature is switched off:\n  app/services/bell.py\n" in said


def test_a_template_that_is_gone(made: Made, template: Path) -> None:
    recorded = made.folder / ".copier-answers.yml"
    text = recorded.read_text()
    recorded.write_text(text.replace("v0.1.0", "v9.9.9"))
    assert made.fail("doctor").startswith("This project was made from version v9.9.9, which ")
    recorded.write_text(text.replace(str(template), "https://127.0.0.1:1/none.git"))
    assert "cannot be reached" in made.fail("doctor")
    recorded.unlink()
    assert "which names the template" in made.fail("doctor")


def test_the_newest_commit_counts_before_the_first_release(template: Path, tmp_path: Path) -> None:
    unreleased = tmp_path / "unreleased"
    git(tmp_path, "clone", "--quiet", str(template), str(unreleased))
    git(unreleased, "checkout", "--quiet", "v0.1.0")
    git(unreleased, "tag", "--delete", "v0.1.0", "v0.2.0", "v0.3.0")
    made = adopt(tmp_path / "project", unreleased, "HEAD")
    old = git(unreleased, "describe", "--always").strip()
    said = made.succeed("doctor")
    assert f"The project was made from version 0.1.0 (commit {old}) of {unreleased}.\n" in said
    assert "The template has no newer version.\n" in said
    (unreleased / "template" / "guide.md").write_text("of later\n")
    (unreleased / "pyproject.toml").unlink()  # without a version there, the commit alone is named
    commit(unreleased)
    new = git(unreleased, "describe", "--always").strip()
    assert f"The template has a newer version, {new}: run `uv run my-bot update`.\n" in made.succeed("doctor")
    made.succeed("update", "--yes")
    assert (made.folder / "guide.md").read_text() == "of later\n"


def test_nothing_is_written(made: Made) -> None:
    made.succeed("doctor")
    assert git(made.folder, "status", "--porcelain") == ""
