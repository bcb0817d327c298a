"""Tests the script that makes releases, on a repository of a few files."""

import re
import sys
from pathlib import Path

import pytest
import release
import yaml
from processes import ROOT, run
from small import commit, git, needs_git, write

pytestmark = needs_git


@pytest.fixture
def released(small: Path) -> Path:
    release.make(small, "0.1.0")
    return small


def test_a_release_is_a_commit_and_a_tag(small: Path) -> None:
    release.make(small, "0.1.0")
    assert git(small, "describe", "--tags").strip() == "v0.1.0"
    assert git(small, "log", "-1", "--format=%s").strip() == "Release 0.1.0"
    assert 'version = "0.1.0"' in (small / "pyproject.toml").read_text()
    later, entry = release.read(small, "CHANGELOG.md").split("## [0.1.0] - ")
    assert re.match(r"20\d\d-\d\d-\d\d\n\n### Added\n", entry)
    assert later.endswith(f"## [Unreleased]\n\n{release.NOTHING_YET}")
    assert git(small, "status", "--porcelain") == ""


def test_releases_are_found_without_tags(released: Path) -> None:
    release.make(released, "0.2.0")
    tagged = {version: git(released, "rev-parse", f"v{version}^{{commit}}").strip() for version in ("0.1.0", "0.2.0")}
    git(released, "tag", "--delete", "v0.1.0", "v0.2.0")
    assert release.releases(released) == tagged
    assert list(release.releases(released)) == ["0.1.0", "0.2.0"]


def test_a_history_that_was_cut_off_is_a_sentence(released: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shallow = tmp_path_factory.mktemp("shallow") / "clone"
    git(released, "clone", "--quiet", "--depth=1", f"file://{released}", str(shallow))
    write(shallow, "pyproject.toml", '[project]\nversion = "0.2.0.dev0"\n')
    commit(shallow)
    git(shallow, "checkout", "--quiet", "--orphan", "alone")
    commit(shallow)
    with pytest.raises(release.ReleaseError, match=r"no commit of 0\.1\.0, .*fetch --unshallow.*fetch-depth: 0"):
        release.releases(shallow)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (("CHANGELOG.md", "### By hand", "### By foot"), 'lacks "### By hand"'),
        (("CHANGELOG.md", "### Settings\n\nNothing.", "### Settings\n"), 'lacks "### Settings"'),
        ((release.SETTINGS, "#OLD=1", "#NEW=1"), 'NEW was added or removed, but "### Settings"'),
        ((release.SETTINGS, "#OLD=1", "#NEW=1"), 'OLD was added or removed, but "### Settings"'),
        ((release.DEPENDENCIES, "fastapi>=1", "starlette>=1"), 'fastapi was added or removed, but "### Dependencies"'),
        ((f"{release.MIGRATIONS}/base/base_0001_start.py", "= 1", "= 2"), "is not as it was released in 0.1.0."),
        (("copier.yml", "name:", "title:"), "The question name is gone, compared with 0.1.0."),
        (("copier.yml", "name: {type: str}", "name: {type: int}"), "The question name is of another kind, compared"),
        (("copier.yml", ", Two: two", ""), "kind no longer has the choice two, compared with 0.1.0."),
    ],
)
def test_what_breaks_projects_is_refused(released: Path, edit: tuple[str, str, str], sentence: str) -> None:
    name, old, new = edit
    text = release.read(released, name)
    assert old in text
    write(released, name, text.replace(old, new, 1))
    commit(released)
    before = git(released, "rev-parse", "HEAD")
    with pytest.raises(release.ReleaseError) as refused:
        release.make(released, "0.2.0")
    assert sentence in str(refused.value)
    assert (git(released, "rev-parse", "HEAD"), git(released, "status", "--porcelain")) == (before, "")


def test_what_is_named_may_come_and_go(released: Path) -> None:
    write(released, release.SETTINGS, "#NEW=1\n")
    text = release.read(released, "CHANGELOG.md")
    write(
        released, "CHANGELOG.md", text.replace("### Settings\n\nNothing.", "### Settings\n\n- `OLD` is now `NEW`.", 1)
    )
    commit(released)
    release.make(released, "0.2.0")


def test_a_file_that_projects_have_stays_where_it_is(released: Path) -> None:
    (released / "template/README.md.jinja").rename(released / "template/README.md")  # has the same path in a project
    (released / "template/compose.yaml.jinja").rename(released / "template/docker-compose.yaml.jinja")
    commit(released)
    there = release.releases(released)["0.1.0"]
    assert list(release.lost_paths(released, there)) == ["The file compose.yaml is gone"]
    with pytest.raises(release.ReleaseError, match=r"The file compose\.yaml is gone, compared with 0\.1\.0\."):
        release.make(released, "0.2.0")


def test_a_file_may_move_where_the_list_says_so(released: Path) -> None:
    (released / "template/compose.yaml.jinja").rename(released / "template/services.yaml.jinja")
    moves = "# What moved.\nUnreleased:\n  files:\n    compose.yaml: services.yaml\n"
    write(released, "moves.yml", moves)
    commit(released)
    release.make(released, "0.2.0")
    assert release.read(released, "moves.yml") == moves.replace("Unreleased", "0.2.0")
    write(released, "moves.yml", moves.replace("services.yaml", "gone.yaml"))
    there = release.releases(released)["0.1.0"]
    assert list(release.lost_paths(released, there)) == ["The file compose.yaml is gone"]


def test_a_migration_that_was_removed_is_noticed(released: Path) -> None:
    path = f"{release.MIGRATIONS}/base/base_0001_start.py"
    (released / path).unlink()
    commit(released)
    assert release.changed_migrations(released, release.releases(released)["0.1.0"]) == [path]


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9"])
def test_versions_only_grow(released: Path, version: str) -> None:
    with pytest.raises(release.ReleaseError, match=f"{version} does not come after 0.1.0"):
        release.make(released, version)


def test_a_tag_that_is_there_already_is_refused_before_anything_is_written(released: Path) -> None:
    git(released, "tag", "v0.2.0")
    before = git(released, "rev-parse", "HEAD")
    with pytest.raises(release.ReleaseError, match=r"There is a tag v0\.2\.0 already"):
        release.make(released, "0.2.0")
    assert git(released, "rev-parse", "HEAD") == before


@pytest.mark.parametrize("version", ["1", "v0.2.0", "0.2.0rc1", "0.2.0\n"])
def test_what_is_no_version(released: Path, version: str) -> None:
    with pytest.raises(release.ReleaseError, match="is not a version such as"):
        release.make(released, version)


def test_uncommitted_work_is_no_part_of_a_release(released: Path) -> None:
    write(released, "draft.md", "\n")
    with pytest.raises(release.ReleaseError, match="not committed"):
        release.make(released, "0.2.0")


def test_the_command_says_what_is_wrong() -> None:
    done = run(sys.executable, "scripts/release.py", cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "Name the version: uvx nox -s release -- 1.2.0\n")
    done = run(sys.executable, "scripts/release.py", "one", cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "'one' is not a version such as 1.2.0.\n")


def test_the_next_release_could_be_made() -> None:
    """Ignores what is not committed: the entry is written with the work, not on the day of the release."""
    found = [sentence for sentence in release.problems(ROOT, "9999.0.0") if "not committed" not in sentence]
    assert found == []


def test_released_migrations_are_the_same_for_ever() -> None:
    for version, found in release.releases(ROOT).items():
        assert release.changed_migrations(ROOT, found) == [], version


def test_every_question_has_a_kind() -> None:
    questions = yaml.safe_load(release.read(ROOT, "copier.yml"))
    assert all(release._kind(question) for name, question in questions.items() if not name.startswith("_"))
