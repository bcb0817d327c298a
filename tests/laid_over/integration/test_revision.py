"""Tests migrations of models that a user adds to the project and changes later."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from app.core.commands import full_command
from tests.integration.conftest import InProcess, Project, newest

PROBE = """
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Owned


class Colour(StrEnum):
    red = "red"
    blue = "blue"


class Probe(Owned):
    __tablename__ = "probes_of_the_tests"
    __table_args__ = (sa.UniqueConstraint("user_id", "title"), sa.CheckConstraint("stars > 0", name="stars"))

    title: Mapped[str] = mapped_column(sa.String(100))
    due_at: Mapped[datetime | None]
    colour: Mapped[Colour]
    stars: Mapped[int]
    extra: Mapped[dict[str, str]] = mapped_column(sa.JSON().with_variant(JSONB(), "postgresql"))
"""
CHANGED_PROBE = PROBE.replace("String(100)", "String(200), index=True").replace("due_at: Mapped", "day: Mapped")


def add_model(project: Project, source: str) -> None:
    (project.folder / "app" / "models" / "probe_of_the_tests.py").write_text(source)


def is_clean(*paths: Path) -> bool:
    for check in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, *paths]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return True


def test_a_model_of_ones_own_and_a_later_change_of_it(project: Project, database_url: str) -> None:
    upgrade, check = ["db", "upgrade"], ["db", "check"]
    add_model(project, PROBE)
    said = project.run_all(["db", "revision", "add probes"], upgrade, DATABASE_URL=database_url)
    written = r"_add_probes\.py, which makes the table probes_of_the_tests: read it, then run `.+ db upgrade`\.\n"
    assert re.search(written, said)
    [first] = project.revisions
    assert first.name.endswith("_add_probes.py")
    assert f'depends_on = "{newest("base")}"' in first.read_text()
    assert "app." not in first.read_text()
    assert f"Applied {first.name.split('_')[1]}: add probes" in said

    add_model(project, CHANGED_PROBE)
    said = project.run_all(["db", "revision", "change probes"], upgrade, check, DATABASE_URL=database_url)
    [_, second] = project.revisions
    assert is_clean(first, second)
    assert f'depends_on = "{newest("base")}"' in second.read_text()
    assert "agree" in said


def test_without_a_change_nothing_is_written_unless_it_is_asked_for(in_process: InProcess, migrated_file: Path) -> None:
    prepared = in_process
    shutil.copy(migrated_file, prepared.folder / "app.db")
    assert "nothing was written" in prepared.succeed("db", "revision", "nothing")
    assert prepared.revisions == []
    prepared.succeed("db", "revision", "--empty", "fill it in")
    [empty] = prepared.revisions
    assert is_clean(empty)
    assert f'depends_on = "{newest("base")}"' in empty.read_text()


def test_a_change_that_no_migration_makes_is_noticed(prepared: Project) -> None:
    add_model(prepared, PROBE)
    sentence = r"The models and the migrations differ \(the table probes_of_the_tests\): run `.+ db revision \".+\"`\."
    assert re.fullmatch(sentence, prepared.fail("db", "check"))


def test_whoever_is_asked_gets_the_migration_of_a_new_table_with_the_upgrade(prepared: Project) -> None:
    add_model(prepared, PROBE)
    for answer, written in (("n\n", 0), ("\n", 1)):
        with prepared.at_terminal("db", "upgrade") as terminal:
            terminal.wait_for("No migration makes the table probes_of_the_tests yet. Write it, and apply it? [Y/n]: ")
            terminal.type(answer)
            assert terminal.ended() == 0
        assert len(prepared.revisions) == written
    assert ": add probes of the tests\r\n" in terminal.screen
    assert "agree" in prepared.succeed("db", "check")


def test_without_a_terminal_the_command_for_a_new_table_is_said(prepared: Project) -> None:
    add_model(prepared, PROBE)
    said = prepared.succeed("db", "upgrade")
    advised = 'run `.+ db revision "add probes of the tests"`, then `.+ db upgrade` again'
    assert re.fullmatch(f"No migration makes the table probes_of_the_tests yet: {advised}.\n", said)
    assert "No migration" not in prepared.succeed("db", "upgrade", ENVIRONMENT="production")
    assert prepared.revisions == []


def test_a_migration_is_written_on_a_current_database(in_process: InProcess) -> None:
    sentence = in_process.fail("db", "revision", "too soon")
    assert sentence == f"The database lacks migrations: run {full_command('db upgrade')} first."


def test_what_would_not_be_a_line_of_python_is_no_message(in_process: InProcess) -> None:
    sentence = in_process.fail("db", "revision", 'add "probes"')
    assert sentence.startswith("The message must be one line of at most 80 characters")
