"""Tests what `parley new slice` refuses, and what it says. tests/test_slices.py runs what it writes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bells import Made
from conftest import Render
from processes import ROOT

from parley.errors import ParleyError
from parley.fields import camel, read_fields
from parley.slices import FILES, Slice, plural


def asked(name: str, *fields: str, several: str = "") -> Slice:
    return Slice(name, several or plural(name), read_fields([*fields], camel(name)))


@pytest.mark.parametrize(
    ("name", "several", "sentence"),
    [
        ("class", "", "'class' is a Python keyword: choose another name."),
        ("a", "", "'as' is a Python keyword: choose another name. It is the plural, which --plural changes."),
        (
            "tickets",
            "",
            "'tickets' looks like a plural: give the singular, or the plural of this name with --plural.",
        ),
        ("none", "", "The name None is taken already: choose another name."),
        ("page", "", "The name Page is taken already"),
        ("cursor", "", "The name Cursor is taken already"),
        ("database", "", "The name Database is taken already"),
        ("current_user", "", "The name CurrentUser is taken already"),
        ("probe", "limit", "The name Limit is taken already"),
        ("Note", "", "'Note' cannot be a name here"),
        ("../note", "", "'../note' cannot be a name here"),
        ("n" * 31, "", f"'{'n' * 31}' is too long: a name has at most 30 characters."),
        ("probe", "probe", "The singular and the plural must differ: choose another --plural."),
        ("lecture", "read", "read is a scope of API keys already: choose another --plural."),
        ("user", "", "app/models/user.py is there already"),
        ("refresh_token", "", "There is a table refresh_tokens already: choose another name, or another --plural."),
        ("base", "", "app/models/base.py is there already: choose another name."),
    ],
)
def test_a_name_that_is_refused(name: str, several: str, sentence: str, default_project: Path) -> None:
    with pytest.raises(ParleyError) as refused:
        asked(name, several=several).check_free(default_project)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (["class:str"], "'class' is a Python keyword"),
        (["Title:str"], "'Title' cannot be a name here"),
        (
            ["title:string"],
            "'string' is not a kind of field: use one of str, text, int, float, bool, date, datetime, uuid, or",
        ),
        (["due:date:str"], "'date:str' is not a kind of field"),
        (["date:date"], "A field cannot be called date, which means something else already"),
        (["id:uuid"], "A field cannot be called id,"),
        (["metadata:text"], "A field cannot be called metadata,"),
        (["json:str"], "A field cannot be called json,"),
        (["title:str", "title:text"], "The field title is given twice: leave one out."),
        (["status:open|Closed"], "'Closed' cannot be a name here"),
        (["status:open|"], "'status:open|' has an empty choice."),
        (["title:"], "The field 'title:' has no kind: write title alone, or one of str, text, int, float, bool,"),
        ([":str"], "The field ':str' has no name: write NAME:KIND."),
        (
            ["status:open"],
            "'open' is not a kind of field: use one of str, text, int, float, bool, date, datetime, uuid, or",
        ),
        (["status:open|title"], "'title' cannot be a choice of status"),
        (["status:open|open"], "Two choices of status are the same: leave one out."),
    ],
)
def test_a_field_that_is_refused(fields: list[str], sentence: str) -> None:
    with pytest.raises(ParleyError) as refused:
        asked("ticket", *fields)
    assert str(refused.value).startswith(sentence)


def test_a_field_without_a_kind_is_a_line() -> None:
    assert read_fields(["title", "note?"], "Ticket") == read_fields(["title:str", "note:str?"], "Ticket")


def test_what_is_refused_leaves_nothing(render: Render, tmp_path: Path) -> None:
    project = Made(render())
    before = sorted(project.folder.rglob("*"))
    assert project.fail("new", "slice", "user").startswith("app/models/user.py is there already")
    environment = {"PATH": str(tmp_path)}  # without uv
    assert project.fail("new", "slice", "ticket", "--migrate", **environment) == (
        "Nothing was written: uv is not installed, and --migrate runs the project with it: leave --migrate out."
    )
    assert sorted(project.folder.rglob("*")) == before


def test_a_migration_that_fails_leaves_nothing(render: Render, tmp_path: Path) -> None:
    """Asserts also that the error of the project's command is passed on."""
    project = Made(render())
    before = sorted(project.folder.rglob("*"))
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\ncase "$*" in *revision*) echo "The disk is full." >&2; exit 1;; esac\n')
    uv.chmod(0o755)
    said = project.fail("new", "slice", "ticket", "--migrate", PATH=str(tmp_path))
    assert said == "Nothing was written: `db revision 'add tickets'` failed: The disk is full."
    assert sorted(project.folder.rglob("*")) == before


def test_a_project_whose_modules_are_elsewhere_gets_nothing(render: Render) -> None:
    project = Made(render())
    (project.folder / "app/core/database.py").rename(project.folder / "app/core/storage.py")
    before = sorted(project.folder.rglob("*"))
    said = project.fail("new", "slice", "ticket")
    assert said.startswith(
        "Nothing was written: app/services/tickets.py, line 3: there is no app.core.database.Database."
    )
    assert sorted(project.folder.rglob("*")) == before


def test_elsewhere_there_is_no_project(tmp_path: Path) -> None:
    assert Made(tmp_path).fail("new", "slice", "ticket") == (
        f"{tmp_path} is not a project of this template: run this in the project's own folder."
    )


def test_without_a_migration_it_says_how_to_have_one(render: Render) -> None:
    project = Made(render())
    said = project.succeed("new", "slice", "meeting_note")
    paths = [path.format(thing="meeting_note", things="meeting_notes") for path in FILES.values()]
    assert said.startswith("".join(f"Wrote {path}\n" for path in paths))
    assert "/api/v1/meeting-notes; an API key needs the scope `meeting-notes`" in said
    assert '  uv run my-bot db revision "add meeting notes" ' in said
    assert project.fail("new", "slice", "meeting_note").startswith("app/models/meeting_note.py is there already")


def test_a_full_disk_is_a_sentence_and_leaves_no_file(render: Render) -> None:
    project = render(features=[])
    before = {*project.rglob("*")}
    program = [sys.executable, "-m", "parley", "new", "slice", "ticket", "title:str"]
    limited = ["/bin/bash", "-c", 'ulimit -f 1 && exec "$@"', "-", *program]  # KiB of a file
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(limited, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "A file cannot be used (File too large).\n")
    assert {*project.rglob("*")} == before
