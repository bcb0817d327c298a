"""A project that its owner has gone on with still passes the tests it came with."""

import re
import sys
from pathlib import Path

import pytest
from conftest import Render
from processes import succeed

NOTE = """
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Owned


class Note(Owned):
    __tablename__ = "notes"

    title: Mapped[str] = mapped_column(sa.String(200))
    body: Mapped[str] = mapped_column(sa.Text)
"""
AFFECTED = [
    "test_account.py",
    "test_cli.py",
    "test_cli_chat.py",
    "test_cli_serve.py::test_a_pending_migration_is_said_at_start",
    "test_migrations.py",
    "test_meetings.py",
    "test_revision.py",
    "test_sweeps.py",
]
"""The tests of the project that look at its own revisions, models and paths."""


@pytest.mark.deep
@pytest.mark.slow
def test_the_tests_pass_with_a_model_of_ones_own_and_a_changed_one(render: Render) -> None:
    project = render()
    command(project, "init")
    command(project, "db", "upgrade")
    (project / "app" / "models" / "note.py").write_text(NOTE)
    migrate(project, "add notes")
    assert "Wrote app/models/meeting.py\n" in command(project, "new", "slice", "meeting")
    command(project, "db", "upgrade")
    replace(project / "app" / "models" / "conversation.py", "String(200)", "String(80)")
    replace(project / "app" / "schemas" / "conversation.py", "max_length=200", "max_length=80")
    migrate(project, "shorter titles")
    succeed("pyright", cwd=project)
    succeed("lint-imports", cwd=project)
    files = [f"tests/integration/{name}" for name in AFFECTED]
    said = succeed(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses=0", *files, cwd=project)
    assert re.search(r"\d+ passed", said)


def migrate(project: Path, message: str) -> None:
    assert "Wrote" in command(project, "db", "revision", message)
    assert message in command(project, "db", "upgrade")


def command(project: Path, *arguments: str) -> str:
    return succeed(sys.executable, "-m", "app.cli", *arguments, cwd=project)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
