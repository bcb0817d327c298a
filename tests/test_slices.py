"""Tests that a project which its owner has extended still passes the tests that it came with."""

import re
import sys
from pathlib import Path

import pytest
from conftest import Render
from overlay import lay_over
from processes import parley, run, succeed

from parley.fields import KINDS

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
"""Names the tests of the project that look at its own revisions, models and paths."""


WITH_FIELDS = ("new", "slice", "ticket", "title:str", "priority:int", "due:date?", "status:open|closed")
IN_THIS_ENVIRONMENT = {"UV_NO_SYNC": "1", "UV_PROJECT_ENVIRONMENT": sys.prefix}
"""Makes uv use the environment of the tests, which has what the project needs."""


@pytest.mark.slow
def test_a_slice_passes_its_tests_at_once(render: Render) -> None:
    """Uses the project's own command, which installs the template's."""
    project = render()
    command(project, "init")
    said = succeed(sys.executable, "-m", "app.cli", *WITH_FIELDS, "--migrate", cwd=project, **IN_THIS_ENVIRONMENT)
    assert "Wrote app/models/ticket.py\nWrote app/schemas/ticket.py\n" in said
    assert "an API key needs the scope `tickets`" in said
    assert re.search(r"Applied \w{12}: add tickets\nThe database is up to date\.\n", said)
    for check in (("check",), ("format", "--check")):
        succeed("ruff", *check, "--no-cache", cwd=project)
    run_tests(project, "test_tickets.py", "test_sweeps.py")


@pytest.mark.deep
@pytest.mark.slow
def test_the_tests_pass_with_a_model_of_ones_own_and_a_changed_one(render: Render) -> None:
    project = render()
    command(project, "init")
    command(project, "db", "upgrade")
    (project / "app" / "models" / "note.py").write_text(NOTE)
    migrate(project, "add notes")
    fields = (f"{word}_{kind}:{kind}{mark}" for kind in KINDS for word, mark in (("a", ""), ("perhaps_a", "?")))
    done = parley("new", "slice", "meeting", *fields, "state:open|closed?", cwd=project)
    assert "Wrote app/models/meeting.py\n" in done.stdout
    too_soon = run(*pytest_of("test_meetings.py"), cwd=project)
    advised = '`uv run my-bot db revision "add meetings"`'
    assert f"No migration makes the table meetings yet: write one with {advised}" in too_soon.stdout
    migrate(project, "add meetings")
    replace(project / "app" / "models" / "conversation.py", "String(200)", "String(80)")
    replace(project / "app" / "schemas" / "conversation.py", "max_length=200", "max_length=80")
    migrate(project, "shorter titles")
    succeed("pyright", cwd=project)
    succeed("lint-imports", cwd=project)
    run_tests(lay_over(project), *AFFECTED)


def run_tests(project: Path, *names: str) -> None:
    assert re.search(r"\d+ passed", succeed(*pytest_of(*names), cwd=project))


def pytest_of(*names: str) -> list[str]:
    files = (f"tests/integration/{name}" for name in names)
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses=0", *files]


def migrate(project: Path, message: str) -> None:
    assert "Wrote" in command(project, "db", "revision", message)
    assert message in command(project, "db", "upgrade")


def command(project: Path, *arguments: str) -> str:
    return succeed(sys.executable, "-m", "app.cli", *arguments, cwd=project)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
