"""Projects that somebody lives in: what they write, what their databases hold, and what must be left of it."""

import json
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
from processes import ROOT, run, succeed
from releases import LEFT_BEHIND, change, commit, git
from services import database

SECRET_KEY = "only-for-tests-0123456789-abcdefgh"
WRITTEN = "Ada wrote this."
ENDPOINT = f'''

@router.get("/team")
async def team(_: CurrentUser) -> dict[str, str]:
    return {{"team": "{WRITTEN}"}}
'''
DELETED = "tests/unit/test_logging.py"
MARKER = "<<<<<<< before updating"


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


def lines(folder: Path, version: str) -> dict[str, Counter[bytes]]:
    """Of every file of a commit."""
    names = git(folder, "ls-tree", "-r", "-z", "--name-only", version).split("\0")[:-1]
    return {name: Counter(git(folder, "show", f"{version}:./{name}").encode().splitlines()) for name in names}


@dataclass
class Life:
    folder: Path
    urls: list[str] = field(default_factory=list)
    written: dict[str, Counter[bytes]] = field(default_factory=dict)
    """The lines that the user wrote, by file."""
    held: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    """The rows that each database held before the last update, by table."""

    # What somebody does

    def begin(self) -> None:
        git(self.folder, "init", "--quiet")
        commit(self.folder, "as it was made")

    def save(self, message: str) -> None:
        """Commit, and remember what was written."""
        before = lines(self.folder, "HEAD")
        commit(self.folder, message)
        for name, text in lines(self.folder, "HEAD").items():
            if written := text - before.get(name, Counter()):
                self.written[name] = self.written.get(name, Counter()) + written

    def edit(self) -> None:
        """A slice and a setting of their own, an edited router, service and README, a deleted file, a dependency."""
        shutil.copytree(ROOT / "tests" / "life", self.folder, dirs_exist_ok=True, ignore=LEFT_BEHIND)
        self.append(".env.example", "# How many notes fit\n#NOTES_PER_USER=100\n")
        self.append("README.md", f"\n{WRITTEN}\n")
        self.append("app/services/users.py", f'\n\nMADE_BY = "{WRITTEN}"\n')
        change(self.folder / "app/api/v1/info.py", r"import OptionalUser", "import CurrentUser, OptionalUser")
        self.append("app/api/v1/info.py", ENDPOINT)
        (self.folder / DELETED).unlink()
        succeed("uv", "add", "--quiet", "--no-sync", "cachetools", cwd=self.folder)
        self.save("what I needed")

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
        for url in self.urls:
            self.rows("fill", url)
            self.held[url] = json.loads(self.rows("dump", url))
            assert all(self.held[url].values()), "a table without a row proves nothing"

    def rows(self, what: str, url: str) -> str:
        return succeed(sys.executable, ROOT / "tests" / "rows.py", what, cwd=self.folder, **self.settings(url))

    def update(self, *options: str) -> str:
        return self.command("update", "--yes", *options)

    # What must be left of it

    def check_files(self) -> None:
        """No conflict, and no line lost that the user wrote before."""
        status = git(self.folder, "status", "--porcelain")
        assert not [line for line in status.splitlines() if "U" in line[:2]], status
        assert not list(self.folder.rglob("*.rej"))
        assert run("git", "grep", "-e", f"^{MARKER}", cwd=self.folder).returncode == 1
        for name, text in self.written.items():
            lost = text - Counter((self.folder / name).read_bytes().splitlines())
            assert not lost, f"{name} lost {lost}"
        assert not (self.folder / DELETED).exists()

    def check_databases(self) -> None:
        """Upgraded, in agreement with the models, and with every row that was there."""
        self.upgrade()
        for url in self.urls:
            assert "agree" in self.command("db", "check", url=url)
            now = json.loads(self.rows("dump", url))
            for table, rows in self.held[url].items():
                kept = [{name: row[name] for name in old} for old, row in zip(rows, now[table], strict=True)]
                assert kept == rows, table

    def check_tests(self, *names: str) -> None:
        command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses=0", *names)
        assert " passed" in succeed(*command, cwd=self.folder)
