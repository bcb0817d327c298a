"""Tests that files are written whole or not at all: without hard links, on a full disk, in folders of the system."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.core.files import create_file, write_file
from tests.conftest import MakeSettings, client_for, running, sign_in
from tests.integration.conftest import Project

NO_LINKS = """
import errno, os

def refuse(*arguments, **options):
    raise OSError(errno.{error}, os.strerror(errno.{error}))

os.link = os.symlink = os.chmod = refuse
"""
"""Makes the system calls fail as they do on a file system that has neither links nor modes."""
RACE = """
from pathlib import Path
from app.core.files import create_file
print(create_file(Path("made"), b"x" * 99_999))
"""
SMALL = "4"
"""Limits the size of files in KiB: the kernel then refuses to write more, as on a full disk."""


@pytest.fixture(params=["EPERM", "ENOTSUP", "EACCES", "ENOSYS"])
def without_links(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Returns the environment of processes whose file system has no links: root alone could mount a real one."""
    patched = tmp_path / "patched"
    patched.mkdir()
    (patched / "sitecustomize.py").write_text(NO_LINKS.format(error=request.param), encoding="utf-8")
    return {"PYTHONPATH": str(patched)}


def small(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that can write no large file."""
    return subprocess.run(
        ["/bin/bash", "-c", 'ulimit -f "$1" && shift && exec "$@"', "-", SMALL, *project.command(*arguments)],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def names(folder: Path) -> set[str]:
    written = (path.relative_to(folder) for path in folder.rglob("*"))
    return {path.as_posix() for path in written if not {"__pycache__", ".ruff_cache"} & {*path.parts}}


def test_commands_write_their_files_without_links(project: Project, without_links: dict[str, str]) -> None:
    before = names(project.folder)
    project.succeed("init", SECRET_KEY=None, **without_links)
    written = (project.folder / ".env").read_text(encoding="utf-8")
    assert "\nSECRET_KEY=" in f"\n{written}"
    assert "stays as it is" in project.succeed("init", **without_links)
    assert (project.folder / ".env").read_text(encoding="utf-8") == written
    project.succeed("openapi", "--output", "openapi.json", **without_links)
    project.succeed("emails", "preview", "verify", "--folder", "previews", **without_links)
    project.succeed("db", "upgrade", **without_links)
    project.succeed("db", "revision", "nothing", "--empty", **without_links)
    made = {".env", "openapi.json", "previews", "previews/verify.html", "app.db"}
    revision = project.revisions[0].relative_to(project.folder).as_posix()
    assert names(project.folder) - before == {*made, revision}


def test_dev_begins_without_links(project: Project, without_links: dict[str, str]) -> None:
    sentence = project.fail("dev", "--host", "256.0.0.1", SECRET_KEY=None, **without_links)
    assert sentence.startswith("Cannot listen on 256.0.0.1")
    assert (project.folder / ".env").is_file()


def test_one_of_many_processes_creates_a_file(project: Project, tmp_path: Path, without_links: dict[str, str]) -> None:
    env = project.environment(PYTHONPATH=f"{without_links['PYTHONPATH']}{os.pathsep}{project.folder}")

    def create(_: int) -> str:
        done = subprocess.run([sys.executable, "-c", RACE], cwd=tmp_path, env=env, capture_output=True, check=True)
        return done.stdout.decode().strip()

    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(create, range(8)))
    assert sorted(said) == ["False"] * 7 + ["True"]
    assert (tmp_path / "made").read_bytes() == b"x" * 99_999
    assert names(tmp_path).isdisjoint({"made.lock"})
    assert not list(tmp_path.glob(".*.new"))


def test_a_lock_that_a_killed_process_left_is_named(project: Project, without_links: dict[str, str]) -> None:
    (project.folder / ".env.lock").touch()
    sentence = project.fail("init", **without_links)
    assert sentence.endswith("/.env.lock: another process seems to write it; if there is none, delete this file).")
    (project.folder / ".env").write_text("SECRET_KEY=\n")
    project.succeed("init", **without_links)


def test_a_full_disk_leaves_no_part_of_a_file(prepared: Project) -> None:
    shutil.copy(prepared.folder / ".env.example", prepared.folder / "openapi.json")
    kept = (prepared.folder / "openapi.json").read_bytes()
    padding = "#" * 8_000
    template = prepared.folder / "alembic" / "script.py.mako"
    template.write_text(f"{template.read_text(encoding='utf-8')}\n# {padding}\n", encoding="utf-8")
    before = names(prepared.folder)
    for command, sentence in (
        (["init"], ".env cannot be written (disk: File too large).\n"),
        (["openapi", "--output", "openapi.json"], "openapi.json cannot be written (File too large).\n"),
        (["openapi", "--output", "new.json"], "new.json cannot be written (File too large).\n"),
        (["db", "revision", "words", "--empty"], "cannot be written to"),
    ):
        done = small(prepared, *command)
        assert done.returncode == 1, command
        assert sentence in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert names(prepared.folder) == before, command
    assert (prepared.folder / "openapi.json").read_bytes() == kept


@pytest.mark.parametrize("folder", ["/proc", "/sys/kernel", "no/such/folder", ".env.example", "x" * 300])
def test_where_nothing_can_be_written_is_a_sentence(prepared: Project, folder: str) -> None:
    for command in (
        ["openapi", "--output", f"{folder}/new.json"],
        ["emails", "preview", "--folder", f"{folder}/new"],
        ["db", "upgrade", "heads"],
    ):
        database = f"sqlite:///{folder}/app.db"
        if folder == "no/such/folder" and command[0] == "emails":
            continue  # it makes the folder
        done = prepared.run(*command, DATABASE_URL=database)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        sentence = done.stderr
        assert folder[:200] in sentence, sentence


def test_files_are_written_through_links_and_to_pipes_and_keep_their_mode(prepared: Project) -> None:
    real, link = prepared.folder / "real.json", prepared.folder / "link.json"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    prepared.succeed("openapi", "--output", "link.json")
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8").startswith("{")
    assert real.stat().st_mode & 0o777 == 0o640
    assert prepared.succeed("openapi", "--output", "/dev/stdout").startswith("{")


def test_settings_that_cannot_be_read_are_a_sentence(prepared: Project) -> None:
    env = prepared.folder / ".env"
    env.write_bytes(b"APP_NAME=gr\xf6\xdfe\n")
    for command in (["init"], ["doctor"], ["db", "current"], ["openapi"]):
        assert prepared.fail(*command).endswith(".env cannot be read: it must be a text file in UTF-8.")
    env.unlink()
    env.mkdir()
    for command in (["init"], ["db", "current"]):
        assert prepared.fail(*command).endswith(".env cannot be read: it is a folder and must be a file, so delete it.")
    env.rmdir()
    (prepared.folder / ".env.example").write_bytes(b"APP_NAME=gr\xf6\xdfe\nSECRET_KEY=\n")
    assert prepared.fail("init").endswith(".env.example cannot be read: it must be a text file in UTF-8.")


def test_a_name_that_is_not_utf_8_is_a_name(prepared: Project) -> None:
    output = os.fsdecode(b"gr\xf6\xdfe.json")
    prepared.succeed("openapi", "--output", output)
    assert output in names(prepared.folder)
    assert "gr" in prepared.fail("openapi", "--output", os.fsdecode(b"gr\xf6\xdfe/new.json"))


async def test_an_email_is_in_the_folder_whole_or_not_at_all(make_settings: MakeSettings, tmp_path: Path) -> None:
    async with running(make_settings(environment="production")) as app, client_for(app) as client:
        await sign_in(client, "ada@example.com")
        await app.state.worker.drain()
    [letter] = (tmp_path / "mailbox").iterdir()
    assert letter.suffix == ".eml"
    assert letter.stat().st_mode & 0o777 == 0o600


def test_what_exists_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert create_file(path, b"ours")
    assert not create_file(path, b"theirs")
    write_file(path, b"new")
    assert (path.read_bytes(), names(tmp_path)) == (b"new", {"file"})
