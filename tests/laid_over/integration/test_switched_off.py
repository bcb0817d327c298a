"""Tests a feature whose files are gone, while its tables and their rows still exist."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.models.base import Base
from tests.conftest import ROOT
from tests.integration.conftest import MIGRATIONS, OWN, InProcess, Project, copied

REVISION = '''"""{name}s of the tests"""

import sqlalchemy as sa
from alembic import op

revision = "{name}_0001"
down_revision = None
branch_labels = ("{name}",)
depends_on = "base_0001"


def upgrade() -> None:
    op.create_table("{name}s", sa.Column("id", sa.Integer, primary_key=True))


def downgrade() -> None:
    op.drop_table("{name}s")
'''
GONE = "probe     probe_0001, switched off: its tables stay as they are"

Database = Callable[..., str]


def folder(project: Project, name: str) -> Path:
    return project.folder / "alembic" / "versions" / name


def switch_on(project: Project, name: str = "probe") -> None:
    folder(project, name).mkdir()
    (folder(project, name) / f"{name}_0001_of_the_tests.py").write_text(REVISION.format(name=name))


def switch_off(project: Project, name: str = "probe") -> None:
    """Removes the files as Copier does: compiled files may stay behind."""
    for path in folder(project, name).glob("*.py"):
        path.unlink()
    (folder(project, name) / "__pycache__").mkdir(exist_ok=True)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return InProcess(copied(MIGRATIONS, tmp_path / "project"))


@pytest.fixture
def _things() -> Iterator[None]:
    """Adds a table that the user owns."""
    things = sa.Table("things_of_the_tests", Base.metadata, sa.Column("id", sa.Integer, primary_key=True))
    yield
    Base.metadata.remove(things)


@pytest.fixture
def db(project: Project, empty_database_url: str) -> Database:
    """Runs a `db` command on the database of a feature that was used, and is switched off."""

    def run(*arguments: str) -> str:
        return project.succeed("db", *arguments, DATABASE_URL=empty_database_url)

    switch_on(project)
    run("upgrade")
    switch_off(project)
    return run


def test_every_command_works(project: Project, db: Database) -> None:
    assert db("upgrade") == "The database is up to date.\n"
    assert GONE in db("current")
    assert db("check") == "Models, migrations and database agree.\n"
    assert "nothing was written" in db("revision", "nothing")
    assert "Undid project_0001" in db("downgrade", "project@base")
    assert "Applied project_0001" in db("upgrade")
    assert GONE in db("current")


@pytest.mark.usefixtures("_things")
def test_the_next_revision_drops_nothing(project: Project, db: Database) -> None:
    db("revision", "add things")
    [written] = project.revisions
    upgrade = written.read_text().split("def downgrade")[0]
    assert "create_table" in upgrade
    assert "drop" not in upgrade
    assert "add things" in db("upgrade")
    assert db("check") == "Models, migrations and database agree.\n"


def test_what_the_base_lacks_is_still_known(project: Project, db: Database, empty_database_url: str) -> None:
    """Detects the missing migration although Alembic stores only the feature's revision, which does not tell."""
    head = sorted(path.name[:9] for path in folder(project, "base").glob("*.py"))[-1]
    later = REVISION.format(name="later").replace("later_0001", "base_9999").replace('("later",)', "None")
    later = later.replace("down_revision = None", f'down_revision = "{head}"').replace('"base_0001"', "None")
    (folder(project, "base") / "base_9999_later.py").write_text(later)
    unready = project.fail("users", "create", "a@example.com", typed="long enough\n", DATABASE_URL=empty_database_url)
    assert re.fullmatch(r"The database lacks migrations \(up to base_9999\): run `.+ db upgrade`\.", unready)
    assert "Applied base_9999" in db("upgrade")


def test_switched_on_again_nothing_is_applied_twice(project: Project, db: Database) -> None:
    switch_on_again(project)
    assert db("upgrade") == "The database is up to date.\n"
    assert "Undid probe_0001" in db("downgrade", "probe@base")
    assert "Applied probe_0001" in db("upgrade")


def test_forgotten_it_begins_anew(project: Project, db: Database, empty_database_url: str) -> None:
    assert "probes" in drops(project, db)
    db("upgrade")
    assert db("forget", "probe").startswith("Forgot probe_0001:")
    assert "switched off" not in db("current")
    again = project.fail("db", "forget", "probe", DATABASE_URL=empty_database_url)
    assert again == "The database has no migration of a feature probe that is switched off."
    switch_on_again(project)
    assert "Applied probe_0001" in db("upgrade")


def test_what_is_gone_cannot_be_undone(project: Project, db: Database, empty_database_url: str) -> None:
    sentence = project.fail("db", "downgrade", "probe@base", DATABASE_URL=empty_database_url)
    assert sentence == "There is no branch probe: if its feature is switched off, switch it on again first."


def test_a_fresh_database_knows_nothing_of_it(project: Project, db: Database, tmp_path: Path) -> None:
    fresh = f"sqlite:///{tmp_path}/fresh.db"
    assert "probe" not in project.succeed("db", "upgrade", DATABASE_URL=fresh)
    assert "probe" not in project.succeed("db", "current", DATABASE_URL=fresh)
    assert "agree" in project.succeed("db", "check", DATABASE_URL=fresh)


def test_a_migration_of_ones_own_that_needs_it_is_named(
    project: Project, db: Database, empty_database_url: str
) -> None:
    own = REVISION.format(name="own").replace("own_0001", "0123456789ab").replace('("own",)', "None")
    own = own.replace("down_revision = None", 'down_revision = "project_0001"').replace("base_0001", "probe_0001")
    (project.folder / OWN / "0123456789ab_own.py").write_text(own)
    for arguments in (("upgrade",), ("current",), ("check",), ("revision", "more")):
        sentence = project.fail("db", *arguments, DATABASE_URL=empty_database_url)
        assert sentence == (
            "The migration 0123456789ab depends on probe_0001, whose file is gone: switch its feature on again, "
            "or put the file back."
        )


def switch_on_again(project: Project) -> None:
    shutil.rmtree(folder(project, "probe"))
    switch_on(project)


def drops(project: Project, db: Database) -> str:
    db("revision", "--drop", "drop probes")
    [written] = project.revisions
    return written.read_text().split("def downgrade")[0]


def test_the_template_names_its_revisions_after_their_branch() -> None:
    for path in (ROOT / "alembic" / "versions").glob("*/*.py"):
        if path.parent.name != "project":
            assert path.name.startswith(f"{path.parent.name}_"), path
            assert f'revision = "{path.name[: len(path.parent.name) + 5]}"' in path.read_text(), path
