"""Tests `parley update`, in a project of a small template that has releases of its own."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from bells import LINES, Made, adopt, make_template
from releases import commit, git
from small import needs_git

from parley.update import BACK

pytestmark = needs_git

OWN = "alembic/versions/project"
ANSWERS = ".copier-answers.yml"
NEWEST = ("line one\n", *LINES[1:-1], "the last line\n")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("released") / "template")


@pytest.fixture(scope="module")
def adopted(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adopt(tmp_path_factory.mktemp("adopted") / "project", template).folder


@pytest.fixture
def made(adopted: Path, tmp_path: Path) -> Made:
    """Copies a project of the first release, committed."""
    return Made(shutil.copytree(adopted, tmp_path / "project"))


def state(project: Made) -> dict[str, bytes]:
    """Returns the content of every file but those that git ignores."""
    names = git(project.folder, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    return {name: path.read_bytes() for name in names if (path := project.folder / name).exists()}


def guide(project: Made) -> list[str]:
    return (project.folder / "guide.md").read_text().splitlines(keepends=True)


def edit(project: Made, name: str, old: str, new: str) -> None:
    path = project.folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    commit(project.folder)


def test_what_both_wrote_is_there_afterwards(made: Made) -> None:
    edit(made, "guide.md", "line 15\n", "my line\n")
    said = made.succeed("update", "--yes")
    assert guide(made) == [*NEWEST[:14], "my line\n", *NEWEST[15:]]
    assert not (made.folder / "docs" / "old.md").exists()
    assert (made.folder / "docs" / "new.md").read_text() == "new\n"
    for part in (
        "From v0.1.0 to v0.3.0",
        "Files that change:\n  .env.example\n  guide.md with what you wrote\n",
        "Files that come:\n  docs/new.md\n",
        "Files that go:\n  docs/old.md\n",
        "New settings, explained in .env.example:\n  NEW_SETTING\n",
        "Settings that are gone:\n  OLD_SETTING\n",
        "or that this version completes:\n  speed = 3\n",
        "To do by hand:\n- Oil the wheel.\n",
        "uv sync",
        "uv run my-bot db upgrade",
        "What is new: CHANGELOG.md in ",
        *BACK,
    ):
        assert part in said, said
    assert "CONFLICT" not in said.upper()
    commit(made.folder)
    assert made.succeed("update").endswith(": there is nothing newer.\n")
    assert made.succeed("update", "--to", "0.3.0").endswith(" already.\n")


def test_to_one_release_and_not_back(made: Made) -> None:
    assert "to v0.2.0" in made.succeed("update", "--to", "0.2.0", "--yes")
    assert guide(made) == ["line one\n", *LINES[1:]]
    commit(made.folder)
    assert made.fail("update", "--to", "v0.1.0") == (
        "v0.1.0 is older than v0.2.0, which the project has: updates only go forward."
    )


def test_it_asks_first(made: Made) -> None:
    before = state(made)
    said = made.succeed("update", typed="n\n")
    assert said.endswith("Update? [y/N]: Nothing was changed.\n")
    assert made.fail("update").startswith("Nothing was changed: there is no terminal to ask at")
    assert state(made) == before


def test_features_are_switched_without_moving(made: Made) -> None:
    said = made.succeed("update", "--with", "wheel", "--yes")
    assert re.match(r"At v0\.1\.0 of .*, with wheel:\n", said)
    assert "git commit -m 'Stay at v0.1.0, with wheel'\n" in said
    assert "What is new" not in said
    assert (made.folder / "app" / "services" / "wheel.py").exists()
    assert "v0.1.0" in (made.folder / ANSWERS).read_text()
    edit(made, "app/services/bell.py", "ding", "dong")
    said = made.succeed("update", "--without", "bell", "--without", "wheel", "--to", "latest", "--yes")
    assert "v0.3.0" in (made.folder / ANSWERS).read_text()
    assert "-m 'Update the template to v0.3.0, without bell, without wheel'" in said
    assert "ALTHOUGH YOU EDITED THEM; git still has them afterwards:\n  app/services/bell.py\n" in said
    assert "Files that go:\n  alembic/versions/bell/bell_0001_a_bell.py\n  app/services/wheel.py\n" in said
    assert "`uv run my-bot db downgrade bell@base wheel@base`" in said
    assert not (made.folder / "app" / "services" / "bell.py").exists()
    assert not (made.folder / "app" / "services" / "wheel.py").exists()
    commit(made.folder)
    made.succeed("update", "--with", "bell", "--yes")
    assert (made.folder / "app" / "services" / "bell.py").read_text() == "SOUND = 'ding'\n"


def test_files_that_import_what_goes_are_named(made: Made) -> None:
    (made.folder / "app" / "services" / "tower.py").write_text("from app.services.bell import SOUND\n")
    commit(made.folder)
    said = made.succeed("update", "--without", "bell", typed="n\n")
    assert "import what goes: change them afterwards:\n  app/services/tower.py\n" in said


def test_a_conflict_is_announced_and_marked(made: Made) -> None:
    edit(made, "guide.md", "line 1\n", "my own beginning\n")
    said = made.succeed("update", "--yes")
    assert "you and the template changed the same lines:\n  guide.md\n" in said
    assert "Settle the conflicts between <<<<<<< and >>>>>>> first, in guide.md" in said
    assert "<<<<<<< before updating\nmy own beginning\n" in "".join(guide(made))
    assert made.fail("update") == "A conflict is left in guide.md: settle and commit it first."
    commit(made.folder, "with its markers")
    assert made.fail("update") == "A conflict is left in guide.md: settle and commit it first."


def test_an_unclean_tree(made: Made) -> None:
    (made.folder / "guide.md").write_text("mine\n")
    (made.folder / "mine.md").write_text("mine\n")
    assert made.fail("update", "--yes") == "Not committed yet: guide.md, mine.md. Commit or stash that first."
    assert (made.folder / "guide.md").read_text() == "mine\n"


def test_what_git_ignores_could_not_be_brought_back(made: Made) -> None:
    (made.folder / ".gitignore").write_text("*.db\n*.md\n")
    git(made.folder, "rm", "--quiet", "--cached", "guide.md")
    commit(made.folder)
    (made.folder / "guide.md").write_text("my own words\n")
    assert made.fail("update", "--yes").startswith("Git ignores guide.md, and an update would lose what you wrote")
    assert (made.folder / "guide.md").read_text() == "my own words\n"
    (made.folder / "guide.md").write_text("".join([*LINES[:14], "my line\n", *LINES[15:]]))
    git(made.folder, "add", "--force", "guide.md")
    commit(made.folder)
    made.succeed("update", "--yes")
    assert guide(made) == [*NEWEST[:14], "my line\n", *NEWEST[15:]]


def test_without_git_there_is_no_way_back(made: Made, tmp_path: Path) -> None:
    before = state(made)
    shutil.move(made.folder / ".git", tmp_path / "moved")
    assert made.fail("update").startswith(f"{made.folder} is in no git repository, or in one without a commit")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message=begun")
    (tmp_path / ".gitignore").write_text("*\n")
    assert made.fail("update").startswith(f"Git tracks no file of {made.folder}, perhaps because it is ignored")
    shutil.move(tmp_path / "moved", made.folder / ".git")
    assert state(made) == before
    (tmp_path / "empty").mkdir()
    assert made.fail("update", PATH=str(tmp_path / "empty")).startswith("Git is not installed")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("features:", "features: [", "cannot be read ("),
        ("features:", "features: 5\nfeature:", "do not suit version v0.1.0 of the template"),
        ("_commit: v0.1.0\n", "", "it lacks `_commit`, because the template was in no git repository"),
        ("_commit: v0.1.0", "_commit: v0.1.1", "made from version v0.1.1, which "),
        ("_commit: v0.1.0", "_commit: --upload-pack=x", "made from version --upload-pack=x, which "),
        ("_src_path: ", "source: ", "it lacks `_src_path`"),
        ("_src_path: ", "_src_path: /nowhere", "cannot be reached ("),
        ("colour: red", "colour: blue", "do not suit version v0.1.0 of the template: Invalid choice for 'colour'"),
        ("colour: red", "colour: green", "edited by hand, so that nobody can tell what was rendered"),
        ("- bell", "- bell\n- horn", "do not suit version v0.1.0 of the template: Invalid choice for 'features'"),
        ("- bell", "- wheel", "edited by hand"),
        ("colour: red", "colour: red\nshape: round", "answers shape, which version v0.1.0 does not ask."),
    ],
)
def test_answers_that_were_edited_by_hand(made: Made, old: str, new: str, sentence: str) -> None:
    edit(made, ANSWERS, old, new)
    before = state(made)
    assert sentence in made.fail("update", "--yes")
    assert state(made) == before


def test_no_record_of_the_answers(made: Made) -> None:
    for text in ("", "- bell\n", "1: bell\n"):
        (made.folder / ANSWERS).write_text(text)
        commit(made.folder)
        answers = f"{made.folder}/{ANSWERS}"
        sentence = f"{answers} is not a list of answers: restore it with `git restore {answers}`."
        assert made.fail("update") == sentence
    (made.folder / ANSWERS).unlink()
    commit(made.folder)
    assert (
        made.fail("update") == f"There is no {made.folder}/{ANSWERS}, which names the template: nothing can be updated."
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--to", "9.9.9"], "There is no release 9.9.9 of {template}; available: v0.3.0, v0.2.0, v0.1.0."),
        (["--to", "--yes"], "There is no release --yes of {template}; available: v0.3.0, v0.2.0, v0.1.0."),
        (["--with", "horn"], "There is no feature horn; available: bell, wheel."),
        (["--with", "bell"], "bell is on already."),
        (["--without", "wheel"], "wheel is off already."),
        (["--with", "wheel", "--without", "wheel"], "wheel cannot be switched both on and off."),
    ],
)
def test_what_cannot_be_done(made: Made, template: Path, options: list[str], sentence: str) -> None:
    before = state(made)
    assert made.fail("update", *options) == sentence.format(template=template)
    assert state(made) == before


def test_an_answer_that_the_new_release_does_not_have(made: Made, template: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    git(tmp_path, "clone", "--quiet", str(template), str(later))
    text = (later / "copier.yml").read_text()
    (later / "copier.yml").write_text(text.replace("{A bell: bell, A wheel: wheel}", "{A wheel: wheel}"))
    commit(later)
    git(later, "tag", "v0.4.0")
    edit(made, ANSWERS, str(template), str(later))
    assert "do not suit version v0.4.0 of the template: Invalid choice for 'features'" in made.fail("update", "--yes")
    made.succeed("update", "--without", "bell", "--to", "latest", "--yes")
    assert "v0.4.0" in (made.folder / ANSWERS).read_text()


def test_a_template_without_tags_is_called_by_its_numbers_and_commits(
    made: Made, template: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "without-tags"
    git(tmp_path, "clone", "--quiet", "--no-tags", str(template), str(bare))
    commits = git(bare, "log", "--reverse", "--format=%h").split()
    old, new = (f"{number} (commit {found})" for number, found in zip(("0.1.0", "0.3.0"), commits[::2], strict=True))
    edit(made, ANSWERS, str(template), str(bare))
    record(made, commits[0])
    assert made.fail("update", "--to", "0.3.0") == (
        f"{bare} has no releases: leave --to out to go to its newest commit."
    )
    said = made.succeed("update", "--with", "wheel", "--yes")
    assert said.startswith(f"At {old} of {bare}, with wheel:\n")
    commit(made.folder)
    said = made.succeed("update", "--yes")
    assert said.startswith(
        f"{bare} has no tags, and so no releases: this goes to its newest commit.\nFrom {old} to {new} "
    )
    assert f"\nThe project is at {new}.\nTo do by hand:\n- Oil the wheel.\n" in said
    assert f"git commit -m 'Update the template to {new}'\n" in said
    assert guide(made) == [*NEWEST]
    commit(made.folder)
    assert made.succeed("update") == f"The project is at {new} of {bare}: there is nothing newer.\n"
    record(made, git(bare, "rev-parse", "HEAD").strip())
    assert made.succeed("update").endswith(": there is nothing newer.\n")
    record(made, "f" * 12)
    assert made.fail("update").startswith(f"This project was made from commit {'f' * 12}, which {bare} does not have.")


def record(project: Made, version: str) -> None:
    """Makes the answers name another version, in quotes since a commit may look like a number."""
    path = project.folder / ANSWERS
    path.write_text(re.sub(r"(?m)^_commit: .*$", f"_commit: '{version}'", path.read_text()))
    commit(project.folder)


def test_a_feature_that_a_migration_of_ones_own_depends_on_stays(made: Made) -> None:
    text = (made.folder / "alembic" / "versions" / "bell" / "bell_0001_a_bell.py").read_text()
    text = text.replace("bell_0001", "0123456789ab").replace("None", '"project_0001"').replace("base_0001", "bell_0001")
    (made.folder / OWN).mkdir()
    (made.folder / OWN / "0123456789ab_mine.py").write_text(text.replace('("bell",)', "None"))
    commit(made.folder)
    assert made.fail("update", "--without", "bell", "--yes").startswith(
        f"{OWN}/0123456789ab_mine.py depends on the migration bell_0001, which would go with its feature"
    )


@pytest.fixture
def _ctrl_c_is_heard() -> Iterator[None]:
    """Restores Ctrl-C, which a shell makes its background jobs ignore, and so every process that a test starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def deadly(folder: Path, word: str, number: signal.Signals) -> str:
    """Returns a PATH whose git sends a signal to its caller when it is called with this word."""
    script = f'#!/bin/sh\nfor word in "$@"; do [ "$word" = {word} ] && kill -{int(number)} $PPID && exit 1\n'
    folder.mkdir()
    (folder / "git").write_text(f'{script}done\nexec {shutil.which("git")} "$@"\n')
    (folder / "git").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize("word", ["apply", "--index-info"])
def test_killed_half_way_it_is_taken_back(made: Made, tmp_path: Path, word: str) -> None:
    within_a_larger_repository(made)
    edit(made, "guide.md", "line 1\n", "my own beginning\n")
    (made.folder / ".env").write_text("SECRET_KEY=kept\n")
    before = state(made)
    done = made.apart("update", "--yes", PATH=deadly(tmp_path / "deadly", word, signal.SIGKILL))
    assert done.returncode == -signal.SIGKILL
    assert state(made) != before
    for command in BACK:
        assert f"  {command}\n" in done.stdout
        git(made.folder, *command.split()[1:])
    assert state(made) == before
    assert git(made.folder, "status", "--porcelain", ".") == ""
    assert (made.folder / ".env").read_text() == "SECRET_KEY=kept\n"
    assert (made.folder.parent / "frontend" / "draft.js").read_text() == "not committed\n"


@pytest.mark.usefixtures("_ctrl_c_is_heard")
def test_interrupted_half_way_it_says_so(made: Made, tmp_path: Path) -> None:
    done = made.apart("update", "--yes", PATH=deadly(tmp_path / "deadly", "apply", signal.SIGINT))
    assert done.returncode == 130
    assert done.stdout.endswith(f"The update did not finish. Undo it, in {made.folder}: {' && '.join(BACK)}\n")


def within_a_larger_repository(made: Made) -> None:
    whole, draft = made.folder.parent, made.folder.parent / "frontend" / "draft.js"
    shutil.rmtree(made.folder / ".git")
    git(whole, "init", "--quiet")
    commit(made.folder)
    draft.parent.mkdir()
    draft.write_text("not committed\n")


def test_in_a_folder_of_a_larger_repository(made: Made) -> None:
    within_a_larger_repository(made)
    edit(made, "guide.md", "line 15\n", "my line\n")
    made.succeed("update", "--yes")
    assert guide(made) == [*NEWEST[:14], "my line\n", *NEWEST[15:]]
    assert "?? frontend/\n" in git(made.folder.parent, "status", "--porcelain")
