"""Projects that are lived in go from release to release, and lose nothing."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lives import MARKER, WRITTEN, Life, databases, files, render
from matrix import QUESTIONS
from processes import succeed
from releases import HERE, LAST, NEXT, change, commit, git, make_template, real

pytestmark = [pytest.mark.slow, pytest.mark.updates]

FEATURES, PROVIDERS = (QUESTIONS.choices(question) for question in ("features", "ai_providers"))
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "smallest": {"features": [], "ai_providers": []},
    "largest": {"features": FEATURES, "ai_providers": PROVIDERS, "database": "postgresql"},
    "no features": {"features": [], "database": "postgresql", "python_version": "3.11"},
    "no providers": {"ai_providers": [], "license": "GPL-3.0", "project_name": "O'Neil #1"},
    "local": {"ai_providers": ["ollama"], "license": "proprietary", "author_name": "Ö. Ada", "setup": "custom"},
}
AFFECTED = [
    "tests/integration/test_account.py",
    "tests/integration/test_notes.py",
    "tests/integration/test_sweeps.py",
    "tests/integration/test_migrations.py",
]
STEPS = [(HERE, LAST), (NEXT, LAST), *((version, HERE) for version in real())]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("released"))


@pytest.fixture
def urls(tmp_path: Path) -> Iterator[list[str]]:
    with databases() as urls:
        yield urls


def begin(template: Path, folder: Path, version: str, answers: dict[str, Any], urls: list[str]) -> Life:
    """A project whose databases are up to date."""
    life = Life(render(template, folder, version, answers), urls)
    life.begin()
    life.upgrade()
    return life


@pytest.mark.parametrize("lived", VARIANTS)
def test_what_was_written_is_kept_through_two_releases(
    lived: str, template: Path, tmp_path: Path, urls: list[str]
) -> None:
    life = begin(template, tmp_path / "project", HERE, VARIANTS[lived], urls)
    life.edit()
    life.migrate("add notes")
    life.fill()

    said = life.update("--to", NEXT)
    assert "CONFLICT" not in said.upper()
    assert "  MADE_LIMIT\n" in said
    assert "  made_zone = UTC\n" in said
    life.check_files()
    life.check_databases()

    commit(life.folder, "updated")
    change(life.folder / "app/models/note.py", r"\n\Z", "\n    body: Mapped[str | None] = mapped_column(sa.Text)\n")
    life.migrate("notes have a body")
    life.fill()
    life.update()
    life.check_files()
    life.check_databases()
    life.check_tests(*([] if lived == "default" else AFFECTED))


@pytest.mark.parametrize(("old", "new"), [*((version, HERE) for version in real()), (HERE, LAST)])
def test_a_release_is_left_behind(old: str, new: str, template: Path, tmp_path: Path, urls: list[str]) -> None:
    """From each that was published to the template as it stands; of those that were made, one is skipped."""
    life = begin(template, tmp_path / "project", old, {}, urls)
    life.edit()
    life.migrate("add notes")
    life.fill()
    said = life.update("--to", new)
    assert f"From {old} to {new}" in said
    if new == LAST:
        assert said.index("- Greet 1001.0.0.") < said.index("- Greet 1002.0.0.")
    life.check_files()
    life.check_databases()
    life.check_tests(*AFFECTED)


@pytest.mark.parametrize("lived", VARIANTS)
@pytest.mark.parametrize(("old", "new"), STEPS)
def test_without_edits_it_is_as_if_freshly_made(old: str, new: str, lived: str, template: Path, tmp_path: Path) -> None:
    life = Life(render(template, tmp_path / "project", old, VARIANTS[lived]), ["sqlite:///unused.db"])
    life.begin()
    life.update("--to", new)
    fresh = render(template, tmp_path / "fresh", new, VARIANTS[lived])
    git(fresh, "init", "--quiet")
    assert files(life.folder) == files(fresh)


@pytest.mark.parametrize("command", ["update", "copier"])
def test_lines_that_both_changed_are_a_conflict(command: str, template: Path, tmp_path: Path) -> None:
    """Else none of the tests here would prove anything."""
    life = Life(render(template, tmp_path / "project", HERE, {}), ["sqlite:///unused.db"])
    life.begin()
    change(life.folder / "README.md", r"## Production\n", f"## Production\n\n{WRITTEN}\n")
    commit(life.folder)
    if command == "update":
        assert "the same lines:\n  README.md\n" in life.update()
    else:
        succeed("copier", "update", "--defaults", cwd=life.folder)
    assert MARKER in (life.folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(AssertionError, match=r"UU README\.md"):
        life.check_files()


def test_a_line_that_is_lost_is_noticed(template: Path, tmp_path: Path) -> None:
    life = Life(render(template, tmp_path / "project", HERE, {}), ["sqlite:///unused.db"])
    life.begin()
    life.append("README.md", f"\n{WRITTEN}\n")
    life.save("mine")
    change(life.folder / "README.md", f"{WRITTEN}\n", "")
    commit(life.folder)
    with pytest.raises(AssertionError, match=r"README.md lost .*Ada wrote this"):
        life.check_files()


def test_plain_copier_does_the_same(template: Path, tmp_path: Path, urls: list[str]) -> None:
    life = begin(template, tmp_path / "project", HERE, {}, urls)
    life.edit()
    life.migrate("add notes")
    life.fill()
    said = succeed("copier", "update", "--defaults", cwd=life.folder)
    assert "uv run my-bot db upgrade" in said
    assert f"CHANGELOG.md in {template}" in said
    life.check_files()
    life.check_databases()


def test_in_a_folder_of_a_larger_repository(template: Path, tmp_path: Path, urls: list[str]) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("*.db*\n")
    (tmp_path / "index.html").write_text("<h1>Front</h1>\n")
    life = Life(render(template, tmp_path / "backend", HERE, {}), urls)
    commit(tmp_path)
    (tmp_path / "index.html").write_text("<h1>A draft</h1>\n")
    life.upgrade()
    life.edit()
    life.migrate("add notes")
    life.fill()
    life.update()
    life.check_files()
    life.check_databases()
    life.check_tests("tests/integration/test_notes.py")
    assert git(tmp_path, "status", "--porcelain", "index.html") == " M index.html\n"
    assert "newer version" in life.command("doctor", url=urls[0])


def switched(life: Life, *options: str) -> str:
    said = life.update(*options)
    life.check_files()
    life.check_databases()
    commit(life.folder, "switched")
    return said


def test_a_feature_is_switched_on(template: Path, tmp_path: Path, urls: list[str]) -> None:
    life = begin(template, tmp_path / "project", LAST, {"features": []}, urls)
    life.edit()
    life.migrate("add notes")
    life.fill()
    before = files(life.folder)
    switched(life, "--with", "chat")
    came = files(life.folder).keys() - before.keys()
    assert "app/services/chat.py" in came
    assert all(life.held[url].keys() < life_tables(life, url) for url in urls)
    switched(life, "--with", "polls")
    assert "app/models/poll.py" in files(life.folder)
    assert {name: text for name, text in before.items() if name in life.written}.keys() <= files(life.folder).keys()
    life.check_tests(*AFFECTED, "tests/integration/test_chat.py")


def life_tables(life: Life, url: str) -> set[str]:
    return set(re.findall(r'"(\w+)": \[', life.rows("dump", url)))


def test_a_feature_is_switched_off_and_on_again(template: Path, tmp_path: Path, urls: list[str]) -> None:
    life = begin(template, tmp_path / "project", NEXT, {"features": ["chat"]}, urls)
    life.edit()
    life.migrate("add notes")
    life.fill()
    life.append("app/services/chat.py", f"\n# {WRITTEN}\n")
    commit(life.folder)
    said = switched(life, "--without", "chat")
    assert "ALTHOUGH YOU EDITED THEM; git still has them afterwards:\n  app/services/chat.py\n" in said
    assert not (life.folder / "app/services/chat.py").exists()
    life.check_tests(*AFFECTED)
    change(life.folder / "app/models/note.py", r"\n\Z", "\n    body: Mapped[str | None] = mapped_column(sa.Text)\n")
    life.migrate("notes have a body")
    assert "drop" not in newest_migration(life).split("def downgrade")[0]
    for url in urls:
        assert "switched off: its tables stay" in life.command("db", "current", url=url)
    switched(life, "--to", LAST)
    switched(life, "--with", "chat")
    assert "Applied" not in life.command("db", "upgrade", url=urls[0])
    life.check_tests(*AFFECTED, "tests/integration/test_chat.py")


def newest_migration(life: Life) -> str:
    own = (life.folder / "alembic/versions/project").glob("*notes_have_a_body.py")
    [path] = own
    return path.read_text(encoding="utf-8")


def test_a_feature_goes_with_its_tables_when_they_are_downgraded_first(
    template: Path, tmp_path: Path, urls: list[str]
) -> None:
    life = begin(template, tmp_path / "project", LAST, {"features": ["chat"]}, urls)
    life.fill()
    for url in urls:
        life.command("db", "downgrade", "chat@base", url=url)
        life.held[url] = {name: rows for name, rows in life.held[url].items() if name in life_tables(life, url)}
    (life.folder / "tests/unit/test_logging.py").unlink()
    commit(life.folder)
    switched(life, "--without", "chat")
    for url in urls:
        assert "conversations" not in life_tables(life, url)
        assert "switched off" not in life.command("db", "current", url=url)
    switched(life, "--with", "chat")
    assert all("conversations" in life_tables(life, url) for url in urls)
