"""Works on projects as their owners do: edits them, fills their databases, and checks what an update must keep."""

import hashlib
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import copier
import services
from checks import Project, suite
from processes import ROOT, parley, run, succeed
from releases import LEFT_BEHIND, change, commit, git
from services import database

from parley.moves import read_moves

SECRET_KEY = "only-for-tests-0123456789-abcdefgh"
WRITTEN = "Ada wrote this."
ENDPOINT = f'''

@router.get("/team")
async def team(_: CurrentUser) -> dict[str, str]:
    return {{"team": "{WRITTEN}"}}
'''
DELETED = "tests/unit/test_config.py"
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.com"))
}
MOVES = read_moves((ROOT / "moves.yml").read_text(encoding="utf-8"))
"""Lists the moves of all releases up to the template as it stands."""
MARKER = "<<<<<<< before updating"
OWN_MIGRATIONS = "alembic/versions/project/"
BY_CHANCE = re.compile(rb"[0-9a-f]{12}|\d{8}(?=_)")
"""Matches random ids and dates in a user's migrations and their names, which differ each time the same are written."""

Held = dict[str, dict[str, list[dict[str, Any]]]]
"""Maps the address of each database to the rows of each of its tables."""


@contextmanager
def databases() -> Iterator[list[str]]:
    """Yields the address of an empty database of each kind."""
    with ExitStack() as stack:
        yield [stack.enter_context(database(kind)) for kind in services.databases()]


def render(template: Path, folder: Path, version: str, answers: dict[str, Any]) -> Path:
    copier.run_copy(str(template), folder, data=answers, vcs_ref=version, defaults=True, quiet=True)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Returns the content of every file that git does not ignore, by path."""
    names = git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def lines(folder: Path, version: str, name: str) -> Counter[bytes]:
    """Counts the lines of a file in a commit; there are none when the file is not in it."""
    found = run("git", "show", f"{version}:./{name}", cwd=folder)
    return Counter(found.stdout.encode().splitlines() if found.returncode == 0 else [])


@dataclass
class Life:
    folder: Path
    urls: list[str] = field(default_factory=list)
    written: dict[str, Counter[bytes]] = field(default_factory=dict)
    """Counts the lines that the user wrote, by file."""
    deleted: set[str] = field(default_factory=set)
    """Names the files that the user deleted."""
    held: Held = field(default_factory=dict)
    """Holds the rows of the databases before the last update."""

    # What the user does

    def begin(self) -> None:
        git(self.folder, "init", "--quiet")
        commit(self.folder, "as it was made")

    def save(self, message: str) -> None:
        """Commits the work, and remembers the lines that were written and the files that were deleted."""
        commit(self.folder, message)
        changed = git(self.folder, "diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD~1", "HEAD")
        for name in changed.split("\0")[:-1]:
            if not (self.folder / name).exists():
                self.deleted.add(name)
            if written := lines(self.folder, "HEAD", name) - lines(self.folder, "HEAD~1", name):
                self.written[name] = self.written.get(name, Counter()) + written

    def edit(self) -> None:
        """Adds a slice, a setting and a dependency, edits a router, a service and the README, and deletes a file."""
        shutil.copytree(ROOT / "tests" / "life", self.folder, dirs_exist_ok=True, ignore=LEFT_BEHIND)
        self.append(".env.example", "# How many notes a user may have\n#NOTES_PER_USER=100\n")
        self.append("README.md", f"\n{WRITTEN}\n")
        users = self.place("app/services/accounts/users.py").relative_to(self.folder).as_posix()
        self.append(users, f'\n\nMADE_BY = "{WRITTEN}"\n')
        change(self.folder / "app/api/v1/info.py", r"import OptionalUser", "import CurrentUser, OptionalUser")
        self.append("app/api/v1/info.py", ENDPOINT)
        (self.folder / DELETED).unlink()
        succeed("uv", "add", "--quiet", "--no-sync", "cachetools", cwd=self.folder)
        self.save("what I needed")

    def place(self, name: str) -> Path:
        """Finds a file in this project, which may still have it at its older path."""
        older = next((old for old, new in MOVES.files.items() if new == name), name)
        return self.folder / (name if (self.folder / name).exists() else older)

    def append(self, name: str, text: str) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def migrate(self, message: str) -> None:
        """Writes a migration of the user's own for what the models have, and applies it to every database."""
        assert "Wrote" in self.command("db", "revision", message, url=self.urls[-1])
        self.upgrade()
        self.save(message)

    def command(self, *arguments: str, url: str = "") -> str:
        return succeed(sys.executable, "-m", "app.cli", *arguments, cwd=self.folder, **self.settings(url))

    def settings(self, url: str) -> dict[str, str]:
        return {"SECRET_KEY": SECRET_KEY, "DATABASE_URL": url or self.urls[0]}

    def upgrade(self) -> None:
        for url in self.urls:
            self.command("db", "upgrade", url=url)

    def fill(self) -> None:
        self.held = self.rows("--fill")
        for tables in self.held.values():
            assert all(tables.values()), "a table without a row proves nothing"

    def rows(self, *options: str) -> Held:
        program = (sys.executable, ROOT / "tests" / "rows.py", *options, *self.urls)
        return json.loads(succeed(*program, cwd=self.folder, **self.settings("")))

    def update(self, *options: str) -> str:
        done = parley("update", "--yes", *options, cwd=self.folder)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def finish(self) -> str:
        """Runs `parley finish`, for an update by a command that does not know the moves."""
        done = parley("finish", cwd=self.folder)
        assert done.returncode == 0, done.stdout
        return done.stdout

    # What must hold after an update

    def check_files(self) -> None:
        """Checks that there is no conflict, and that no line is lost that the user wrote before."""
        status = git(self.folder, "status", "--porcelain")
        assert not [line for line in status.splitlines() if "U" in line[:2]], status
        assert not list(self.folder.rglob("*.rej"))
        assert run("git", "grep", "-e", f"^{MARKER}", cwd=self.folder).returncode == 1
        for name, text in self.written.items():
            place = self.folder / name if (self.folder / name).exists() else self.folder / MOVES.path(name)
            lost = text - Counter(place.read_bytes().splitlines())
            assert not lost, f"{name} lost {lost}"
        assert not [name for name in self.deleted if (self.folder / name).exists()]

    def check_databases(self) -> None:
        """Upgrades the databases, and checks that they agree with the models and have kept every row."""
        self.upgrade()
        now = self.rows()
        for url in self.urls:
            assert "agree" in self.command("db", "check", url=url)
            for table, rows in self.held[url].items():
                kept = [{name: row[name] for name in old} for old, row in zip(rows, now[url][table], strict=True)]
                assert kept == rows, table

    def code(self) -> str:
        """Returns a digest that is the same for the same code of application, tests and migrations."""
        code = {name: name.encode() + b"\0" + text for name, text in files(self.folder).items() if name.endswith(".py")}
        told = [BY_CHANCE.sub(b"", text) if name.startswith(OWN_MIGRATIONS) else text for name, text in code.items()]
        return hashlib.sha256(b"\0".join(sorted(told))).hexdigest()[:16]

    def check_tests(self, *names: str, **settings: str) -> int:
        """Returns how many of the project's own tests passed."""
        return suite(Project(self.folder), *names, **settings)
