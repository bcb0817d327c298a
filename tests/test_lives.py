"""Tests that what an update loses is noticed: else the tests of updates would prove nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from lives import OWN_MIGRATIONS, WRITTEN, Life, render
from releases import HERE, change, commit, write

pytestmark = [pytest.mark.slow, pytest.mark.updates]


def test_a_line_that_is_lost_is_noticed(released: Path, tmp_path: Path) -> None:
    life = Life(render(released, tmp_path / "project", HERE, {}), ["sqlite:///unused.db"])
    life.begin()
    life.append("README.md", f"\n{WRITTEN}\n")
    life.save("mine")
    change(life.folder / "README.md", f"{WRITTEN}\n", "")
    commit(life.folder)
    with pytest.raises(AssertionError, match=r"README.md lost .*Ada wrote this"):
        life.check_files()


def test_a_row_that_is_lost_is_noticed(released: Path, tmp_path: Path) -> None:
    life = Life(render(released, tmp_path / "project", HERE, {}), [f"sqlite:///{tmp_path}/app.db"])
    life.upgrade()
    life.fill()
    life.check_databases()
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection, connection:
        connection.execute("UPDATE users SET full_name = 'another'")
    with pytest.raises(AssertionError, match="users"):
        life.check_databases()


def test_a_test_that_fails_or_is_left_out_is_noticed(released: Path, tmp_path: Path) -> None:
    life = Life(render(released, tmp_path / "project", HERE, {}))
    (life.folder / "tests/unit/test_mine.py").write_text(
        "import pytest\n\n\ndef test_mine() -> None:\n    assert not 1\n"
    )
    with pytest.raises(AssertionError, match="1 failed"):
        life.check_tests("tests/unit/test_mine.py")
    change(life.folder / "tests/unit/test_mine.py", "assert not 1", 'pytest.skip("not today")')
    with pytest.raises(AssertionError, match="1 skipped"):
        life.check_tests("tests/unit/test_mine.py", "tests/unit/test_config.py")


def test_what_was_proven_is_known_again_and_nothing_else_is(released: Path, tmp_path: Path) -> None:
    life = Life(render(released, tmp_path / "project", HERE, {}))
    life.begin()
    codes = [
        code_with_migrations(life, *ids) for ids in (("0aaaaaaaaaaa", "fbbbbbbbbbbb"), ("fbbbbbbbbbbb", "0aaaaaaaaaaa"))
    ]
    assert codes[0] == codes[1]
    for name in ("app/main.py", "tests/conftest.py", "alembic/env.py"):
        life.append(name, "\n# 0aaaaaaaaaaa\n")
        codes.append(code_with_migrations(life, "0aaaaaaaaaaa", "fbbbbbbbbbbb"))
    codes.append(code_with_migrations(life, "0aaaaaaaaaaa", "fbbbbbbbbbbb", "    pass\n"))
    assert len(set(codes)) == len(codes) - 1


def code_with_migrations(life: Life, first: str, second: str, more: str = "") -> str:
    """Returns the digest of the code with two migrations of the user's own, one after the other."""
    for revision, title in ((first, "add_notes"), (second, "notes_have_a_body")):
        write(life.folder / OWN_MIGRATIONS / f"20260101_{revision}_{title}.py", f'revision = "{revision}"\n{more}')
    code = life.code()
    for path in (life.folder / OWN_MIGRATIONS).glob("20260101_*.py"):
        path.unlink()
    return code
