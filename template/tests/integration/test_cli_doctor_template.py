"""What `doctor` says about the template."""

from pathlib import Path

import pytest

from tests.integration.conftest import Project
from tests.integration.releases import adopt, commit, git


@pytest.fixture
def made(made: Project) -> Project:
    made.succeed("db", "upgrade")
    return made


def told(project: Project, *options: str) -> str:
    (project.folder / ".env").write_text("SECRET_KEY=\n")
    return project.succeed("doctor", *options)


def test_a_project_as_it_was_made(made: Project, template: Path) -> None:
    said = told(made)
    assert f"ok       The project was made from version v0.1.0 of {template}\n" in said
    assert "ok       The template has a newer version, v0.3.0: run the `update` command\n" in said
    assert "ok       Files that differ from the template's: none\n" in said
    made.succeed("update", "--yes")
    assert "ok       The template has no newer version\n" in told(made)


def test_files_that_were_edited_or_deleted(made: Project) -> None:
    (made.folder / "app" / "services" / "bell.py").write_text("SOUND = 'dong'\n")
    (made.folder / "guide.md").write_text("mine\n")
    (made.folder / "docs" / "old.md").unlink()
    said = told(made)
    assert "Files that differ from the template's: app/services/bell.py, guide.md\n" in said
    assert "Files of the template that you deleted: docs/old.md\n" in said
    assert "files that go when their feature is switched off: app/services/bell.py\n" in said


def test_what_is_far_away_is_looked_at_only_when_asked(made: Project, template: Path) -> None:
    text = (made.folder / ".copier-answers.yml").read_text()
    (made.folder / ".copier-answers.yml").write_text(text.replace(str(template), f"file://{template}"))
    assert "`doctor --template` looks" in told(made)
    assert "newer version, v0.3.0" in told(made, "--template")


def test_a_template_that_is_gone(made: Project, template: Path) -> None:
    text = (made.folder / ".copier-answers.yml").read_text()
    (made.folder / ".copier-answers.yml").write_text(text.replace("v0.1.0", "v9.9.9"))
    assert "The template: This project was made from version v9.9.9" in told(made)
    (made.folder / ".copier-answers.yml").write_text(text.replace(str(template), "https://127.0.0.1:1/none.git"))
    assert told(made)
    assert "cannot be reached" in made.fail("doctor", "--template")


def test_a_project_without_a_template_has_nothing_to_say(prepared: Project) -> None:
    assert "template" not in told(prepared)
    assert "which names the template" in prepared.fail("doctor", "--template")


def test_the_newest_commit_counts_before_the_first_release(prepared: Project, template: Path, tmp_path: Path) -> None:
    bare = tmp_path / "unreleased"
    git(tmp_path, "clone", "--quiet", str(template), str(bare))
    git(bare, "checkout", "--quiet", "v0.1.0")
    git(bare, "tag", "--delete", "v0.1.0", "v0.2.0", "v0.3.0")
    adopt(prepared.folder, bare, "HEAD")
    prepared.succeed("db", "upgrade")
    assert "The template has no newer version\n" in told(prepared)
    (bare / "template" / "guide.md").write_text("of later\n")
    commit(bare)
    assert "The template has a newer version, " in told(prepared)
    commit(prepared.folder)
    prepared.succeed("update", "--yes")
    assert (prepared.folder / "guide.md").read_text() == "of later\n"
