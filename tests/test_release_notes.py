"""Tests that the notes of a tag on GitHub are the changelog's entry, and that any other tag is refused."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from processes import ROOT, run
from release_notes import NoNotes, notes

CHANGELOG = (
    "# Changelog\n\n## [Unreleased]\n\nLater.\n\n## [1.2.0] - 2026-11-28\n\n### Added\n\n- All.\n\n## [1.1.0]\n\nOld.\n"
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def test_the_entry_of_a_tag(repository: Path) -> None:
    assert notes(repository, "v1.2.0") == "### Added\n\n- All.\n"


def test_the_last_entry_ends_with_the_file(repository: Path) -> None:
    (repository / "CHANGELOG.md").write_text(CHANGELOG.split("\n## [1.1.0]", maxsplit=1)[0])
    assert notes(repository, "v1.2.0") == "### Added\n\n- All.\n"


@pytest.mark.parametrize("tag", ["v1.1.0", "1.2.0", "v1.2.0rc1", ""])
def test_a_tag_of_another_version(tag: str, repository: Path) -> None:
    with pytest.raises(NoNotes, match=r"pyproject.toml has the version 1\.2\.0"):
        notes(repository, tag)


@pytest.mark.parametrize(
    "entry", ["## [1.2.1]\n\nNew.\n", "## [1.2.0]\n\n## [1.1.0]\n\nOld.\n", "## [1x2x0]\n\nNew.\n"]
)
def test_an_entry_that_is_not_there(entry: str, repository: Path) -> None:
    (repository / "CHANGELOG.md").write_text(f"# Changelog\n\n{entry}")
    with pytest.raises(NoNotes, match=r"no entry for 1\.2\.0"):
        notes(repository, "v1.2.0")


def test_the_workflow_calls_it() -> None:
    """Calls it with the tag of another version, so that the line ends with an error."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    [line] = [step["run"] for step in workflow["jobs"]["release"]["steps"] if "notes.py" in step.get("run", "")]
    command = re.sub(r"^python3 (.*?) > notes\.md$", r"\1", line).replace('"$GITHUB_REF_NAME"', "v0.0.0")
    done = run(sys.executable, *command.split(), cwd=ROOT)
    assert done.returncode == 1
    assert done.stdout.startswith("The tag is v0.0.0, but pyproject.toml has the version ")
