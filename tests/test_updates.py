"""Tests that projects with an owner's edits and data go from release to release, and lose nothing."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import release
from checks import KILLS, chosen_tests
from lives import IDENTITY, MARKER, WRITTEN, Life, databases, files, render
from matrix import QUESTIONS
from processes import ROOT, parley, succeed
from proofs import Proofs
from releases import HERE, LAST, NEXT, change, commit, git, make_template, real, take_working_tree, write

pytestmark = [pytest.mark.slow, pytest.mark.updates]

FEATURES, PROVIDERS = (QUESTIONS.choices(question) for question in ("features", "ai_providers"))
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "smallest": {"features": [], "ai_providers": [], "speech_providers": []},
    "no features": {"features": [], "database": "postgresql", "python_version": "3.11"},
    "no providers": {"ai_providers": [], "license": "GPL-3.0", "project_name": "O'Neil #1"},
    "local": {"ai_providers": ["ollama"], "license": "proprietary", "author_name": "Ö. Ada", "setup": "custom"},
    "largest": {"features": FEATURES, "ai_providers": PROVIDERS, "database": "postgresql"},
}
AFFECTED = (
    "tests/integration/test_account.py",
    "tests/integration/test_notes.py",
    "tests/integration/test_sweeps.py",
    "tests/integration/test_migrations.py",
)
"""Names the user's own tests, and those of every table, path and migration: what an update and an edit share."""
ON_SQLITE = {"TEST_DATABASE_URL": "postgresql://postgres@127.0.0.1:1/none", "REQUIRE_SERVICES": ""}
"""Keeps the suite of the default off PostgreSQL, since the variants run it there too."""
Begin = Callable[[str, dict[str, Any]], Life]
STEPS = [(HERE, LAST), (NEXT, LAST), *((version, HERE) for version in real())]
BEGUN = [(version, HERE, lived) for version in real() for lived in VARIANTS]
QUICK = [step for step in BEGUN if step[2] == "default"][-1:]
"""Selects the default project of the newest release: every change of the template is tested with it."""


@pytest.fixture
def urls(tmp_path: Path) -> Iterator[list[str]]:
    with databases() as urls:
        yield urls


@pytest.fixture
def begin(released: Path, tmp_path: Path, urls: list[str]) -> Begin:
    return beginning(released, tmp_path / "project", urls)


def beginning(template: Path, folder: Path, urls: list[str]) -> Begin:
    """Returns a function that makes a project of a release, with databases that are up to date."""

    def made(version: str, answers: dict[str, Any]) -> Life:
        life = Life(render(template, folder, version, answers), urls)
        life.begin()
        life.upgrade()
        return life

    return made


@pytest.mark.deep
@pytest.mark.parametrize("lived", VARIANTS)
def test_what_was_written_is_kept_through_two_releases(lived: str, begin: Begin, proofs: Proofs) -> None:
    life = begin(HERE, VARIANTS[lived])
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
    prove(life, proofs, lived, *AFFECTED)
    if lived == "default":
        life.check_tests(*chosen_tests(life.folder, KILLS), **ON_SQLITE)


def prove(life: Life, proofs: Proofs, name: str, *tests: str) -> None:
    """Runs these tests, unless the same code has passed them in this run."""
    kind = hashlib.sha256(" ".join(tests).encode()).hexdigest()[:8]
    proofs.of(f"{kind}-{life.code()}", name, lambda: life.check_tests(*tests))


@pytest.mark.parametrize(
    ("old", "new", "lived"),
    [
        pytest.param(*step, marks=[] if step in QUICK else pytest.mark.deep)
        for step in (*BEGUN, (HERE, LAST, "default"))
    ],
)
def test_a_release_is_left_behind(old: str, new: str, lived: str, begin: Begin, proofs: Proofs) -> None:
    """Updates each published release by its own command to the template as it stands; of those made, one is skipped."""
    life = begin(old, VARIANTS[lived])
    life.edit()
    life.migrate("add notes")
    life.fill()
    if old in real():
        said = life.command("update", "--yes", "--to", new)
        life.finish()
    else:
        said = life.update("--to", new)
    assert f"From {old} to {new}" in said
    if new == LAST:
        assert said.index("- Greet 1001.0.0.") < said.index("- Greet 1002.0.0.")
    life.check_files()
    life.check_databases()
    prove(life, proofs, f"{lived} of {old}", *AFFECTED)


@pytest.mark.deep
@pytest.mark.parametrize("lived", VARIANTS)
@pytest.mark.parametrize(("old", "new"), STEPS)
def test_without_edits_it_is_as_if_freshly_made(old: str, new: str, lived: str, released: Path, tmp_path: Path) -> None:
    life = Life(render(released, tmp_path / "project", old, VARIANTS[lived]), ["sqlite:///unused.db"])
    life.begin()
    life.update("--to", new)
    fresh = render(released, tmp_path / "fresh", new, VARIANTS[lived])
    git(fresh, "init", "--quiet")
    assert files(life.folder) == files(fresh)


@pytest.mark.parametrize("command", ["update", "copier"])
def test_lines_that_both_changed_are_a_conflict(command: str, released: Path, tmp_path: Path) -> None:
    """Proves that the tests here notice a conflict; else they would prove nothing."""
    life = Life(render(released, tmp_path / "project", HERE, {}), ["sqlite:///unused.db"])
    life.begin()
    change(life.folder / "README.md", r"## Production\n", f"## Production\n\n{WRITTEN}\n")
    commit(life.folder)
    if command == "update":  # the project's own command, which installs the template's
        assert "the same lines:\n  README.md\n" in life.command("update", "--yes")
    else:
        succeed("copier", "update", "--defaults", cwd=life.folder)
    assert MARKER in (life.folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(AssertionError, match=r"UU README\.md"):
        life.check_files()


def test_a_published_release_joins_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finds the release in the history, without its tag."""
    for variable, value in IDENTITY.items():
        monkeypatch.setenv(variable, value)
    root, template = tmp_path / "root", tmp_path / "template"
    for folder in (root, template):
        folder.mkdir()
    take_working_tree(ROOT, root)
    entry = release.unreleased(release.read(root, "CHANGELOG.md"))
    (root / "CHANGELOG.md").write_text(f"# Changelog\n\n## [Unreleased]\n{entry}", encoding="utf-8")
    git(root, "init", "--quiet")
    commit(root)
    release.make(root, "1.0.0")
    git(root, "tag", "--delete", "v1.0.0")
    make_template(template, root)
    life = Life(render(template, tmp_path / "project", "v1.0.0", {}), ["sqlite:///unused.db"])
    life.begin()
    assert f"From v1.0.0 to {HERE}" in life.update("--to", HERE)
    assert f"_commit: {HERE}\n" in (life.folder / ".copier-answers.yml").read_text(encoding="utf-8")
    life.check_files()


def test_a_release_begins_an_update_once_the_template_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in IDENTITY.items():
        monkeypatch.setenv(variable, value)
    write(tmp_path / "CHANGELOG.md", f"## [Unreleased]\n\n{release.NOTHING_YET}")
    write(tmp_path / "pyproject.toml", 'version = "0.1.0.dev0"\n')
    for name in ("copier.yml", "extensions/rules.jinja", "template/README.md.jinja"):
        write(tmp_path / name, "a: {type: str}\n")
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    release.make(tmp_path, "1.0.0")
    write(tmp_path / "docs/new.md", "\n")
    assert real(tmp_path) == []
    write(tmp_path / "template/new.py", "\n")
    assert real(tmp_path) == ["v1.0.0"]
    (tmp_path / "template/new.py").unlink()
    write(tmp_path / "copier.yml", "b: {type: str}\n")
    commit(tmp_path)
    assert real(tmp_path) == ["v1.0.0"]


@pytest.mark.deep
def test_plain_copier_does_the_same(released: Path, begin: Begin) -> None:
    life = begin(HERE, {})
    life.edit()
    life.migrate("add notes")
    life.fill()
    said = succeed("copier", "update", "--defaults", cwd=life.folder)
    assert "uv run my-bot db upgrade" in said
    assert f"CHANGELOG.md in {released}" in said
    life.check_files()
    life.check_databases()


@pytest.mark.deep
def test_in_a_folder_of_a_larger_repository(released: Path, tmp_path: Path, urls: list[str]) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("*.db*\n")
    (tmp_path / "index.html").write_text("<h1>Front</h1>\n")
    life = Life(render(released, tmp_path / "backend", HERE, {}), urls)
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
    assert "newer version" in parley("doctor", cwd=life.folder).stdout


def switched(life: Life, *options: str) -> str:
    said = life.update(*options)
    life.check_files()
    life.check_databases()
    commit(life.folder, "switched")
    return said


@pytest.mark.deep
def test_a_feature_is_switched_on(begin: Begin, proofs: Proofs) -> None:
    life = begin(LAST, {"features": ["chat"]})
    life.edit()
    life.migrate("add notes")
    life.fill()
    before = files(life.folder)
    switched(life, "--with", "agents")
    came = files(life.folder).keys() - before.keys()
    assert {"app/services/agents/run.py", "app/services/tools/conversations.py"} <= came
    assert all(life.held[url].keys() < tables.keys() for url, tables in life.rows().items())
    switched(life, "--with", "polls")
    assert "app/models/poll.py" in files(life.folder)
    assert {name: text for name, text in before.items() if name in life.written}.keys() <= files(life.folder).keys()
    prove(life, proofs, "switched on", *AFFECTED, "tests/integration/test_executions.py")


@pytest.mark.deep
def test_a_feature_is_switched_off_and_on_again(begin: Begin, proofs: Proofs) -> None:
    life = begin(NEXT, {"features": ["chat"]})
    life.edit()
    life.migrate("add notes")
    life.fill()
    life.append("app/services/chat/messages.py", f"\n# {WRITTEN}\n")
    commit(life.folder)
    said = switched(life, "--without", "chat")
    assert "ALTHOUGH YOU EDITED THEM; git still has them afterwards:\n  app/services/chat/messages.py\n" in said
    assert not (life.folder / "app/services/chat/messages.py").exists()
    prove(life, proofs, "switched off", *AFFECTED)
    change(life.folder / "app/models/note.py", r"\n\Z", "\n    body: Mapped[str | None] = mapped_column(sa.Text)\n")
    life.migrate("notes have a body")
    assert "drop" not in newest_migration(life).split("def downgrade")[0]
    for url in life.urls:
        assert "switched off: its tables stay" in life.command("db", "current", url=url)
    switched(life, "--to", LAST)
    switched(life, "--with", "chat")
    assert "Applied" not in life.command("db", "upgrade", url=life.urls[0])
    prove(life, proofs, "switched on", *AFFECTED, "tests/integration/test_chat.py")


@pytest.mark.deep
def test_a_feature_without_tables_is_switched_off_and_on_again(released: Path, tmp_path: Path) -> None:
    """Asserts also that what speech shares with another feature goes and comes with it."""
    life = Life(render(released, tmp_path / "project", LAST, {}), ["sqlite:///unused.db"])
    life.begin()
    before = files(life.folder)
    life.update("--without", "speech")
    left = files(render_committed(released, tmp_path / "fresh", {"features": ["chat", "agents"]}))
    assert files(life.folder) == left
    assert {"app/api/v1/speech.py", "app/api/v1/chat_audio.py"} <= before.keys() - left.keys()
    commit(life.folder)
    life.update("--with", "speech")
    assert files(life.folder) == before


def render_committed(released: Path, folder: Path, answers: dict[str, Any]) -> Path:
    git(render(released, folder, LAST, answers), "init", "--quiet")
    return folder


def newest_migration(life: Life) -> str:
    own = (life.folder / "alembic/versions/project").glob("*notes_have_a_body.py")
    [path] = own
    return path.read_text(encoding="utf-8")


@pytest.mark.deep
def test_a_feature_goes_with_its_tables_when_they_are_downgraded_first(begin: Begin) -> None:
    life = begin(LAST, {"features": ["chat"]})
    life.fill()
    for url in life.urls:
        life.command("db", "downgrade", "chat@base", url=url)
    for url, left in life.rows().items():
        life.held[url] = {name: rows for name, rows in life.held[url].items() if name in left}
    (life.folder / "tests/unit/test_config.py").unlink()
    commit(life.folder)
    switched(life, "--without", "chat")
    assert not any("conversations" in tables for tables in life.rows().values())
    assert not any("switched off" in life.command("db", "current", url=url) for url in life.urls)
    switched(life, "--with", "chat")
    assert all("conversations" in tables for tables in life.rows().values())
