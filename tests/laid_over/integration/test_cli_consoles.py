"""Tests that every command prints on every console, whatever its encoding, and whether anybody reads it or not."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.integration.conftest import Project

PASSWORD = "größe ist alles\n"
NAMED = {"APP_NAME": "Zoës 机器人 €", "APP_DESCRIPTION": "«Größe» 空 \U0001f9d1"}
CONSOLES = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "ascii:strict"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "cp1252"},
    {"LANG": "C"},
    {"LC_ALL": "C"},
]
NO_UNICODE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
COMMANDS = [
    *(["--help"], ["init"], ["db", "upgrade"], ["db", "current"], ["db", "check"], ["doctor"], ["emails", "preview"]),
    *(["openapi"], ["openapi", "--output", "größe.json"], ["db", "revision", "größe", "--empty"], ["db", "upgrade"]),
    *(["db", "downgrade", "project@base"], ["db", "forget", "größe"], ["nönsense"]),
]


ALL = """
import json, sys
from contextlib import suppress
from app.cli import main
for command in json.loads(sys.argv.pop()):
    sys.argv[1:] = command
    print("--", ascii(command), flush=True)
    with suppress(SystemExit):
        main()
"""
"""Runs commands in one process, since importing everything takes a second."""


def run(
    project: Project, command: list[str], typed: bytes = b"", **settings: str | None
) -> subprocess.CompletedProcess[bytes]:
    env = project.environment(**settings)
    return subprocess.run(
        project.command(*command), cwd=project.folder, env=env, input=typed, capture_output=True, check=False
    )


@pytest.fixture
def zoe(project: Project) -> Project:
    """Names the project in letters of several alphabets, and the folder of the copy, too, which also has spaces."""
    folder = project.folder.rename(project.folder.with_name("Zoës 机器人 €"))
    (folder / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in NAMED.items()), encoding="utf-8")
    return Project(folder)


@pytest.mark.parametrize("console", CONSOLES, ids=str)
def test_every_command_prints_on_every_console(zoe: Project, console: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALL, json.dumps(COMMANDS)],
        cwd=zoe.folder,
        env=zoe.environment(**console),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
    )
    assert b"Traceback" not in done.stdout, done.stdout
    assert b"codec" not in done.stdout, done.stdout
    said = re.split(rb"(?m)^-- .*$", done.stdout)[1:]
    silent = [command for command, text in zip(COMMANDS, said, strict=True) if not text.strip()]
    assert silent == [["openapi", "--output", "größe.json"]]
    assert "größe.json" in os.listdir(zoe.folder)


@pytest.mark.parametrize("console", CONSOLES, ids=str)
def test_the_openapi_document_is_whole_on_every_console(zoe: Project, console: dict[str, str]) -> None:
    document = json.loads(run(zoe, ["openapi"], b"", **console).stdout)
    assert document["info"]["title"] == NAMED["APP_NAME"]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252"])
def test_a_password_is_read_in_the_encoding_of_the_console(prepared: Project, encoding: str) -> None:
    create = ["users", "create", "zoë@example.com", "--full-name", "Zoë"]
    done = run(prepared, create, PASSWORD.encode(encoding), PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "zoë@example.com".encode(encoding) in done.stdout


@pytest.mark.parametrize(("encoding", "typed"), [("utf-8", PASSWORD.encode("latin-1")), ("ascii", PASSWORD.encode())])
def test_a_password_in_another_encoding_is_refused(prepared: Project, encoding: str, typed: bytes) -> None:
    done = run(prepared, ["users", "create", "zoe@example.com"], typed, PYTHONIOENCODING=encoding)
    sentence = f"What was typed is not text in {encoding}: set PYTHONIOENCODING to the encoding of the terminal.\n"
    assert (done.returncode, done.stderr.decode()) == (1, sentence)


def test_a_locale_that_lacks_letters_of_the_settings_is_a_sentence(zoe: Project) -> None:
    done = run(zoe, ["openapi"], b"", **NO_UNICODE)
    assert done.returncode == 1
    assert b".env has letters that the locale lacks: set LANG" in done.stderr


def test_an_error_shows_no_escape_sequence(prepared: Project) -> None:
    for command in (["db", "upgrade", "\x1b[2Jx"], ["\x1b]0;title\x07", "x"], ["openapi", "--output", "/no\x1b[2J/x"]):
        done = run(prepared, command)
        assert done.returncode == 1
        assert b"\x1b" not in done.stderr


UNREAD = '"$@" | true; echo "${PIPESTATUS[0]}"'
FULL = b"The output cannot be written (No space left on device).\n"


def commands_that_print() -> Iterator[list[str]]:
    yield from (["--help"], ["openapi"], ["db", "upgrade"], ["db", "current"], ["doctor"], ["emails", "preview"])


def test_nobody_reads_the_output(project: Project) -> None:
    for command in commands_that_print():
        done = subprocess.run(
            ["/bin/bash", "-c", UNREAD, "-", *project.command(*command)],
            cwd=project.folder,
            env=project.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == "", command
        assert done.stdout.strip() in {"0", "1"}, command
    assert "up to date" in project.succeed("db", "current")


def test_a_full_disk_is_a_sentence(prepared: Project) -> None:
    for command in commands_that_print():
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                prepared.command(*command),
                cwd=prepared.folder,
                env=prepared.environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
            )
        assert (done.returncode, done.stderr) == (1, FULL), command


@pytest.mark.parametrize("command", [["users", "create", "closed@example.com"], ["chat"]])
def test_a_closed_input_is_a_sentence(prepared: Project, command: list[str]) -> None:
    if command[0] not in prepared.succeed("--help"):
        return
    closed = ["bash", "-c", f"{shlex.join(prepared.command(*command))} <&-"]
    done = subprocess.run(closed, cwd=prepared.folder, env=prepared.environment(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b"Standard input is closed: nothing can be typed.\n")
