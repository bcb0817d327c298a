"""Projects that somebody lives in: what they write, what their databases hold, and what must be left of it."""

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
"""Of all releases up to the template as it stands."""
MARKER = "<<<<<<< before updating"
OWN_MIGRATIONS = "alembic/versions/project/"
BY_CHANCE = re.compile(rb"[0-9a-f]{12}|\d{8}(?=_)")
"""In the names of a user's migrations, and in what names them: whoever writes the same ones again gets others."""

Held = dict[str, dict[str, list[dict[str, Any]]]]
"""The rows of each table of each database, by its address."""


@contextmanager
def databases() -> Iterator[list[str]]:
    """The addresses of an empty one of each kind."""
    with ExitStack() as stack:
        yield [stack.enter_context(database(kind)) for kind in services.databases()]


def render(template: Path, folder: Path, version: str, answers: dict[str, Any]) -> Path:
    copier.run_copy(str(template), folder, data=answers, vcs_ref=version, defaults=True, quiet=True)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """What git would keep."""
    names = git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def lines(folder: Path, version: str, name: str) -> Counter[bytes]:
    """Of a file of a commit; none when it is not there."""
    found = run("git", "show", f"{version}:./{name}", cwd=folder)
    return Counter(found.stdout.encode().splitlines() if found.returncode == 0 else [])


@dataclass
class Life:
    folder: Path
    urls: list[str] = field(default_factory=list)
    written: dict[str, Counter[bytes]] = field(default_factory=dict)
    """The lines that the user wrote, by file."""
    deleted: set[str] = field(default_factory=set)
    """The files that the user did not want."""
    held: Held = field(default_factory=dict)
    """What the databases held before the last update."""

    # What somebody does

    def begin(self) -> None:
        git(self.folder, "init", "--quiet")
        commit(self.folder, "as it was made")

    def save(self, message: str) -> None:
        """Commit, and remember what was written."""
        commit(self.folder, message)
        changed = git(self.folder, "diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD~1", "HEAD")
        for name in changed.split("\0")[:-1]:
            if not (self.folder / name).exists():
                self.deleted.add(name)
            if written := lines(self.folder, "HEAD", name) - lines(self.folder, "HEAD~1", name):
                self.written[name] = self.written.get(name, Counter()) + written

    def edit(self) -> None:
        """A slice and a setting of their own, an edited router, service and README, a deleted file, a dependency."""
        shutil.copytree(ROOT / "tests" / "life", self.folder, dirs_exist_ok=True, ignore=LEFT_BEHIND)
        self.append(".env.example", "# How many notes fit\n#NOTES_PER_USER=100\n")
        self.append("README.md", f"\n{WRITTEN}\n")
        users = self.place("app/services/accounts/users.py").relative_to(self.folder).as_posix()
        self.append(users, f'\n\nMADE_BY = "{WRITTEN}"\n')
        change(self.folder / "app/api/v1/info.py", r"import OptionalUser", "import CurrentUser, OptionalUser")
        self.append("app/api/v1/info.py", ENDPOINT)
        (self.folder / DELETED).unlink()
        succeed("uv", "add", "--quiet", "--no-sync", "cachetools", cwd=self.folder)
        self.save("what I needed")

    def place(self, name: str) -> Path:
        """Where a file is in this project, which may be older than its path."""
        older = next((old for old, new in MOVES.files.items() if new == name), name)
        return self.folder / (name if (self.folder / name).exists() else older)

    def append(self, name: str, text: str) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def migrate(self, message: str) -> None:
        """Write a migration of one's own for what the models have, and apply it everywhere."""
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
        """What an update that knows of no moves leaves to do."""
        done = parley("finish", cwd=self.folder)
        assert done.returncode == 0, done.stdout
        return done.stdout

    # What must be left of it

    def check_files(self) -> None:
        """No conflict, and no line lost that the user wrote before."""
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
        """Upgraded, in agreement with the models, and with every row that was there."""
        self.upgrade()
        now = self.rows()
        for url in self.urls:
            assert "agree" in self.command("db", "check", url=url)
            for table, rows in self.held[url].items():
                kept = [{name: row[name] for name in old} for old, row in zip(rows, now[url][table], strict=True)]
                assert kept == rows, table

    def code(self) -> str:
        """The same for the same code of application, tests and migrations."""
        code = {name: name.encode() + b"\0" + text for name, text in files(self.folder).items() if name.endswith(".py")}
        told = [BY_CHANCE.sub(b"", text) if name.startswith(OWN_MIGRATIONS) else text for name, text in code.items()]
        return hashlib.sha256(b"\0".join(sorted(told))).hexdigest()[:16]

    def check_tests(self, *names: str, **settings: str) -> int:
        """How many of the project's own passed."""
        return suite(Project(self.folder), *names, **settings)
