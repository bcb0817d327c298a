"""Tests that parts of the deep proof leave records of the tree that passed them, and that a release needs them all."""

import shutil
import sys
from pathlib import Path

import deep
import pytest
import records
import release
from processes import ROOT, run, succeed
from small import commit, git, needs_git, write

pytestmark = needs_git
MARKED = "pytestmark = pytest.mark.{}\n"
NOXFILE = """import nox


@nox.session(venv_backend="none")
def lint(session):
    {does}


@nox.session(venv_backend="none")
def typecheck(session):
    pass


@nox.session(venv_backend="none")
def tests(session):
    pass
"""


@pytest.fixture(autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the folder of the test's records."""
    folder = tmp_path_factory.mktemp("records")
    monkeypatch.setenv("PARLEY_RECORDS", str(folder))
    return folder


@pytest.fixture
def quick(small: Path) -> Path:
    """Makes a repository whose part `tests` takes no time."""
    write(small, "noxfile.py", NOXFILE.format(does="pass"))
    write(small, ".gitignore", ".nox/\n__pycache__/\n")
    commit(small)
    return small


def changed(root: Path, name: str, text: str) -> bool:
    """Tells whether a tree with this text in that file is another one."""
    before = records.fingerprint(root)
    write(root, name, text)
    return records.fingerprint(root) != before


def test_a_tree_is_known_by_all_that_a_project_is_made_from(small: Path) -> None:
    assert not changed(small, "CHANGELOG.md", "# Another\n")
    version = (small / "pyproject.toml").read_text().replace("0.1.0.dev0", "0.1.0")
    assert not changed(small, "pyproject.toml", version)
    assert changed(small, "pyproject.toml", f"{version}[tool.new]\n")
    assert changed(small, "template/new.py", "")
    assert changed(small, "template/new.py", "x = 1\n")
    assert changed(small, ".gitignore", "ignored\n")
    assert not changed(small, "ignored", "x = 1\n")


def test_a_part_is_proven_until_something_that_it_reads_changes(small: Path) -> None:
    """Asserts also that a part such as `load` does not read the test modules of another."""
    for part in ("load", "updates"):
        write(small, f"tests/test_{part}.py", MARKED.format(part))

    def undone(name: str) -> set[str]:
        before = {part: records.fingerprint(small, part) for part in parts}
        text = (small / name).read_text() if (small / name).is_file() else ""
        write(small, name, f"{text}# more\n")
        return {part for part, was in before.items() if records.fingerprint(small, part) != was}

    parts = {"tests", "harness", "fuzz", "load", "updates", "updates-from-0.1.0"}
    for name in ("template/app/new.py", "tests/conftest.py", "copier.yml", "noxfile.py", "parley/new.py"):
        assert undone(name) == parts
    assert undone("tests/test_load.py") == {"tests", "harness", "load"}
    assert undone("tests/test_updates.py") == {"tests", "harness", "updates", "updates-from-0.1.0"}
    assert undone("tests/test_of_none.py") == {"tests", "harness"}
    assert undone("scripts/records.py") == {"tests", "harness"}


def test_what_a_part_runs_is_found_by_its_mark(tmp_path: Path) -> None:
    write(tmp_path, "tests/test_one.py", "import test_two\n\n" + MARKED.format("load"))
    write(tmp_path, "tests/test_two.py", "from test_three import x\n")
    write(tmp_path, "tests/test_three.py", "x = 1\n")
    write(tmp_path, "tests/test_four.py", MARKED.format("loading"))
    assert records.unread_tests(tmp_path, "load") == {"tests/test_four.py"}
    assert records.unread_tests(ROOT, "updates") >= {"tests/test_load.py", "tests/test_environments.py"}
    assert records.unread_tests(ROOT, "updates").isdisjoint({"tests/test_lives.py", "tests/test_update_projects.py"})


def test_a_clone_is_the_same_tree(small: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    clone = tmp_path_factory.mktemp("clone") / "small"
    git(small, "clone", "--quiet", str(small), str(clone))
    assert records.fingerprint(clone) == records.fingerprint(small)


def test_a_part_that_passes_is_not_missing_any_more(quick: Path) -> None:
    assert "tests" in deep.missing(quick)
    assert deep.prove(quick, "tests")
    assert "tests" not in deep.missing(quick)
    assert "tests         passed 20" in deep.table(quick)
    write(quick, "template/new.py", "x = 1\n")
    assert "tests" in deep.missing(quick)


def test_a_part_that_fails_leaves_no_record(quick: Path) -> None:
    write(quick, "noxfile.py", NOXFILE.format(does='session.error("It fails.")'))
    assert not deep.prove(quick, "tests")
    assert "tests" in deep.missing(quick)


def test_a_tree_that_changes_meanwhile_leaves_no_record(quick: Path) -> None:
    write(quick, "noxfile.py", NOXFILE.format(does='session.run("touch", "new.py", external=True)'))
    assert not deep.prove(quick, "tests")
    assert "tests" in deep.missing(quick)


def test_what_failed_is_tried_again_and_what_passed_is_known(tmp_path: Path) -> None:
    write(tmp_path, "passed", '{"by": "a", "tests": 3, "failure": ""}')
    write(tmp_path, "failed", '{"by": "a", "tests": 0, "failure": "1 failed"}')
    write(tmp_path, "failed.lock", "")
    deep.forget_failures(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failed.lock", "passed"]


def test_a_release_wants_every_part(small: Path) -> None:
    for part in ("parley", "scripts"):
        shutil.copytree(ROOT / part, small / part, ignore=shutil.ignore_patterns("__pycache__"))
    write(small, ".gitignore", "__pycache__/\n")
    commit(small)
    make = (sys.executable, "scripts/release.py", "0.1.0")
    refused = run(*make, cwd=small)
    assert refused.returncode == 1
    assert "This tree has not passed tests, harness, docs, " in refused.stdout
    for part in deep.parts(small):
        records.write(records.place(small, part), part, 1, 0.4)
    assert succeed(*make, cwd=small).startswith("Released 0.1.0.")
    assert deep.missing(small) == []


def test_a_part_that_is_not_there_is_refused_with_the_names_of_those_that_are() -> None:
    done = run(sys.executable, "scripts/deep.py", "everything", cwd=ROOT)
    assert done.returncode == 2
    assert "there is no part everything; name one of tests, harness, " in done.stdout


def test_a_history_that_is_cut_off_is_said(quick: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    release.make(quick, "0.1.0")
    write(quick, "CHANGELOG.md", f"## [Unreleased]\n\n{release.NOTHING_YET}## [0.1.0]\n")
    commit(quick)
    release.make(quick, "0.2.0")
    shutil.copytree(ROOT / "scripts", quick / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    write(quick, "template/new.py", "x = 1\n")
    commit(quick)
    shallow = tmp_path_factory.mktemp("shallow") / "small"
    git(quick, "clone", "--quiet", "--depth=1", f"file://{quick}", str(shallow))
    done = run(sys.executable, "scripts/deep.py", "--list", cwd=shallow)
    assert done.returncode == 2
    assert "fetch all of it" in done.stdout
