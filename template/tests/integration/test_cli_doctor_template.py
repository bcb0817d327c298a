"""What `doctor` says about the template."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.cli._template import Template
from tests.integration.conftest import MIGRATIONS, InProcess, Project, copied
from tests.integration.releases import adopt, commit, git


@pytest.fixture
def made(made: InProcess, migrated_file: Path) -> InProcess:
    return with_database(made, migrated_file)


@pytest.fixture
def bare(tmp_path: Path, migrated_file: Path) -> InProcess:
    """No template made it."""
    return with_database(InProcess(copied(MIGRATIONS, tmp_path / "project")), migrated_file)


def with_database(project: InProcess, migrated: Path) -> InProcess:
    shutil.copy(migrated, project.folder / "app.db")
    project.succeed("db", "upgrade")
    return project


def told(project: Project, *options: str) -> str:
    (project.folder / ".env").write_text("SECRET_KEY=\n")
    return project.succeed("doctor", *options)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions that are rendered, each of which takes a second or more."""
    versions: list[str] = []
    render = Template.render

    def counted(self: Template, version: str, *rest: Any) -> Path:
        versions.append(version)
        return render(self, version, *rest)

    monkeypatch.setattr(Template, "render", counted)
    return versions


def test_a_project_as_it_was_made(made: Project, template: Path) -> None:
    said = told(made)
    assert f"ok       The project was made from version v0.1.0 of {template}\n" in said
    assert "ok       The template has a newer version, v0.3.0: run the `update` command\n" in said
    assert "ok       Files that differ from the template's: none\n" in told(made, "--template")
    made.succeed("update", "--yes")
    assert "ok       The template has no newer version\n" in told(made)


def test_nothing_is_rendered_unless_files_are_to_be_compared(made: Project, rendered: list[str]) -> None:
    assert "off      Which of the template's files you edited: add --template\n" in told(made)
    assert rendered == []
    told(made, "--template")
    assert rendered == ["v0.1.0"]
    (made.folder / "guide.md").write_text("mine\n")
    told(made, "--template")
    assert rendered == ["v0.1.0"] * 3


def test_files_that_were_edited_or_deleted(made: Project) -> None:
    (made.folder / "app" / "services" / "bell.py").write_text("SOUND = 'dong'\n")
    (made.folder / "guide.md").write_text("mine\n")
    (made.folder / "docs" / "old.md").unlink()
    said = told(made, "--template")
    assert "Files that differ from the template's: app/services/bell.py, guide.md\n" in said
    assert "Files of the template that you deleted: docs/old.md\n" in said
    assert "files that go when their feature is switched off: app/services/bell.py\n" in said


def test_what_is_far_away_is_looked_at_only_when_asked(made: Project, template: Path) -> None:
    text = (made.folder / ".copier-answers.yml").read_text()
    (made.folder / ".copier-answers.yml").write_text(text.replace(str(template), f"file://{template}"))
    assert "off      Whether the template has a newer version, and which of its files you edited: add --template" in (
        told(made)
    )
    assert "newer version, v0.3.0" in told(made, "--template")


def test_a_template_that_is_gone(made: Project, template: Path) -> None:
    text = (made.folder / ".copier-answers.yml").read_text()
    (made.folder / ".copier-answers.yml").write_text(text.replace("v0.1.0", "v9.9.9"))
    assert "off      The template: This project was made from version v9.9.9" in told(made)
    (made.folder / ".copier-answers.yml").write_text(text.replace(str(template), "https://127.0.0.1:1/none.git"))
    assert told(made)
    assert "cannot be reached" in made.fail("doctor", "--template")


def test_another_python_than_the_project_is_made_for(made: Project) -> None:
    assert "This environment runs Python" not in told(made)
    with (made.folder / ".copier-answers.yml").open("a") as answers:
        answers.write("python_version: '3.99'\n")
    assert "and the project is made for 3.99: `uv sync --python 3.99` makes the environment anew," in told(made)


def test_a_project_without_a_template_has_nothing_to_say(bare: InProcess) -> None:
    assert "template" not in told(bare)
    assert "which names the template" in bare.fail("doctor", "--template")


def test_the_newest_commit_counts_before_the_first_release(bare: InProcess, template: Path, tmp_path: Path) -> None:
    unreleased = tmp_path / "unreleased"
    git(tmp_path, "clone", "--quiet", str(template), str(unreleased))
    git(unreleased, "checkout", "--quiet", "v0.1.0")
    git(unreleased, "tag", "--delete", "v0.1.0", "v0.2.0", "v0.3.0")
    adopt(bare.folder, unreleased, "HEAD")
    bare.succeed("db", "upgrade")
    old = git(unreleased, "describe", "--always").strip()
    assert f"The project was made from version 0.1.0 (commit {old}) of {unreleased}\n" in told(bare)
    assert "The template has no newer version\n" in told(bare)
    (unreleased / "template" / "guide.md").write_text("of later\n")
    (unreleased / "pyproject.toml").unlink()  # without a number, it is the commit alone
    commit(unreleased)
    new = git(unreleased, "describe", "--always").strip()
    assert f"The template has a newer version, {new}: run the `update` command\n" in told(bare)
    commit(bare.folder)
    bare.succeed("update", "--yes")
    assert (bare.folder / "guide.md").read_text() == "of later\n"
    assert f"The project was made from version {new} of {unreleased}\n" in told(bare)
    recorded = bare.folder / ".copier-answers.yml"
    recorded.write_text(recorded.read_text().replace(str(unreleased), f"file://{unreleased}"))
    assert f"The project was made from commit {new} of file://{unreleased}\n" in told(bare)
