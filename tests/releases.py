"""Makes a git repository of the template's releases: the real ones, the working tree, and two that are made from it.

The made ones change little and match few lines of the template, so that they still apply while it changes.
"""

import re
import shutil
import subprocess
from pathlib import Path

import history
from processes import ROOT, succeed

HERE, NEXT, LAST = "v1000.0.0", "v1001.0.0", "v1002.0.0"
PARTS = (
    *("CHANGELOG.md", "copier.yml", "extensions", "moves.yml", "template"),
    *("LICENSE", "README.md", "parley", "pyproject.toml"),  # for the command `parley`, which projects install
)
LEFT_BEHIND = shutil.ignore_patterns(
    "__pycache__", ".*_cache", ".coverage", ".env", ".venv", "*.db", "*.db-*", "uv.lock"
)
NICKNAME, PINNED, SUBTITLE = "nickname", "is_pinned", "subtitle"


def git(folder: Path, *arguments: str) -> str:
    return succeed("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", *arguments, cwd=folder)


def commit(folder: Path, message: str = "work") -> None:
    git(folder, "add", "--all", ".")
    git(folder, "commit", "--quiet", "--allow-empty", f"--message={message}")


def make_template(folder: Path, root: Path = ROOT) -> Path:
    """Commits and tags every release here; the repository of the template needs no tags for this."""
    git(folder, "init", "--quiet")
    for version, found in history.releases(root).items():
        _take(root, found, folder)
        _release(folder, f"v{version}")
    _clear(folder)
    take_working_tree(root, folder)
    _set_version(folder, HERE)
    _release(folder, HERE)
    for version, change in ((NEXT, change_much), (LAST, change_more)):
        change(folder / "template", folder / "copier.yml")
        _set_version(folder, version)
        _release(folder, version)
    return folder


def real(root: Path = ROOT) -> list[str]:
    """Returns the versions of the real releases but not one that equals the working tree, which is HERE."""
    return [f"v{version}" for version in history.differing(root)]


def _take(root: Path, found: str, folder: Path) -> None:
    _clear(folder)
    parts = git(root, "ls-tree", "--name-only", found, "--", *PARTS).split()
    archive = subprocess.run(("git", "archive", found, *parts), cwd=root, stdout=subprocess.PIPE, check=True)
    subprocess.run(("tar", "-x", "-C", folder), input=archive.stdout, check=True)


def take_working_tree(root: Path, folder: Path) -> None:
    for part in PARTS:
        if (root / part).is_dir():
            shutil.copytree(root / part, folder / part, ignore=LEFT_BEHIND)
        else:
            shutil.copy2(root / part, folder / part)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _release(folder: Path, version: str) -> None:
    commit(folder, version)
    git(folder, "tag", version)


def _set_version(folder: Path, version: str) -> None:
    number = version.removeprefix("v")
    change(folder / "pyproject.toml", r'(?m)^version = ".*"$', f'version = "{number}"')
    entry = f"## [Unreleased]\n\n## [{number}] - 3000-01-01\n\n### By hand\n\n- Greet {number}.\n"
    change(folder / "CHANGELOG.md", r"(?m)^## \[Unreleased\]\n", entry)


def change(path: Path, pattern: str, text: str) -> None:
    """Replaces the first match of a pattern. Raises AssertionError without one: the template has outgrown this file."""
    replaced, count = re.subn(pattern, lambda found: found.expand(text), path.read_text(encoding="utf-8"), count=1)
    assert count == 1, f"{path} has nothing that matches {pattern}"
    path.write_text(replaced, encoding="utf-8")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def revision(template: Path, branch: str, title: str, upgrade: list[str], downgrade: list[str]) -> None:
    """Writes the next migration of a branch of the template."""
    folder = template / "alembic" / "versions" / branch
    last = max((int(path.name.split("_")[1]) for path in folder.glob(f"{branch}_*.py")), default=0)
    body = REVISION.format(
        title=title.replace("_", " "),
        revision=f"{branch}_{last + 1:04d}",
        down=f'"{branch}_{last:04d}"' if last else None,
        labels=f'("{branch}",)' if not last else None,
        depends='"base_0001"' if not last else None,
        upgrade="\n    ".join(upgrade),
        downgrade="\n    ".join(downgrade),
    )
    write(folder / f"{branch}_{last + 1:04d}_{title}.py", body)


def new_column(table: str, name: str, kind: str) -> tuple[list[str], list[str]]:
    change = f'with op.batch_alter_table("{table}") as table:'
    return (
        [change, f'    table.add_column(sa.Column("{name}", {kind}, nullable=True))'],
        [change, f'    table.drop_column("{name}")'],
    )


def new_table(name: str) -> tuple[list[str], list[str]]:
    """Returns a table of rows that have an owner, since a project's tests ask this of every table."""
    columns = ['"id", sa.Uuid(), nullable=False', '"created_at", sa.DateTime(timezone=True), nullable=False']
    columns += ['"title", sa.String(80), nullable=False', '"user_id", sa.Uuid(), nullable=False']
    made = [f'op.create_table(\n        "{name}",', *(f"    sa.Column({column})," for column in columns)]
    owner = f'["user_id"], ["users.id"], name="fk_{name}_user_id", ondelete="CASCADE"'
    made += [f'    sa.PrimaryKeyConstraint("id", name="pk_{name}"),', f"    sa.ForeignKeyConstraint({owner}),", ")"]
    return [*made, f'op.create_index("ix_{name}_user_id", "{name}", ["user_id"])'], [f'op.drop_table("{name}")']


def change_much(template: Path, questions: Path) -> None:
    """Adds a table, a column, a router, a setting, a dependency, a question, and lines to files that users edit."""
    revision(template, "base", "notices", *new_table("notices"))
    revision(template, "base", "nicknames", *new_column("users", NICKNAME, "sa.String(60)"))
    write(template / "app/models/notice.py", MODEL.format(name="Notice", table="notices"))
    column = f"\\g<0>    {NICKNAME}: Mapped[str | None] = mapped_column(sa.String(60))\n"
    change(template / "app/models/user.py", r'    __tablename__ = "users"\n\n', column)
    write(template / "app/api/v1/notices.py", ROUTER.format(path="notices"))
    change(template / "app/core/config.py", r"    app_name: ", "    made_limit: int = 10\n\\g<0>")
    change(template / ".env.example.jinja", r"# --- Database\n", "# Made for {{ made_zone }}\n#MADE_LIMIT=10\n\n\\g<0>")
    change(template / "pyproject.toml.jinja", r'    "pwdlib', '    "packaging>=24",\n\\g<0>')
    question = "made_zone:\n  type: str\n  help: Where?\n  ask: \"{{ setup == 'custom' }}\"\n  default: UTC\n\n"
    change(questions, r"(?m)^_exclude:", f"{question}\\g<0>")
    touch(template)


def touch(template: Path) -> None:
    """Changes files that users edit, too, but not the same lines."""
    change(template / "README.md.jinja", r"## Production\n", "\\g<0>\nA release wrote this.\n")
    change(template / "app/api/v1/info.py", r"(?m)^router = .*$", "\\g<0>\n# A release wrote this.")
    change(template / "app/services/accounts/users.py", r"\A", "# A release wrote this.\n")


def change_more(template: Path, questions: Path) -> None:
    """Renames a file, removes one, extends one, adds a feature, and changes tables of a feature and of NEXT."""
    renamed = sorted((template / "tests/unit").glob("test_*.py"))[0]
    renamed.rename(renamed.with_name("test_that_was_renamed.py"))
    (template / "app/api/v1/notices.py").unlink()
    write(template / "app/api/v1/announcements.py", ROUTER.format(path="announcements"))
    revision(template, "base", "subtitles", *new_column("notices", SUBTITLE, "sa.String(80)"))
    column = f"\n    {SUBTITLE}: Mapped[str | None] = mapped_column(sa.String(80))\n"
    change(template / "app/models/notice.py", r"\n\Z", column)
    revision(template, "chat", "pinned", *new_column("conversations", PINNED, "sa.Boolean()"))
    column = f"\\g<0>    {PINNED}: Mapped[bool | None]\n"
    begins = r'    __tablename__ = "conversations"\n(?:    __table_args__ = .*\n(?:        .*\n|    \)\n)*)?\n'
    change(template / "app/models/conversation.py", begins, column)
    add_polls(template, questions)


def add_polls(template: Path, questions: Path) -> None:
    revision(template, "polls", "polls", *new_table("polls"))
    write(template / "app/models/poll.py", MODEL.format(name="Poll", table="polls"))
    write(template / "app/api/v1/polls.py", ROUTER.format(path="polls"))
    files = ("alembic/versions/polls", "app/models/poll.py", "app/api/v1/polls.py")
    block = "".join(f"    {line}\n" for line in ("{% if 'polls' not in features %}", *files, "{% endif %}"))
    change(questions, r"(?m)^_exclude:\n", f"\\g<0>  - |\n{block}")
    change(questions, r"(?ms)^features:\n.*?  choices:\n", "\\g<0>    Polls: polls\n")


REVISION = '''"""{title}"""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {down}
branch_labels = {labels}
depends_on = {depends}


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    {downgrade}
'''
MODEL = """import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Owned


class {name}(Owned):
    __tablename__ = "{table}"

    title: Mapped[str] = mapped_column(sa.String(80))
"""
ROUTER = """from fastapi import APIRouter

from app.api.deps import CurrentUser, SettingsDep

router = APIRouter(prefix="/{path}", tags=["{path}"])


@router.get("")
async def read_{path}(_: CurrentUser, settings: SettingsDep) -> dict[str, int]:
    return {{"limit": settings.made_limit}}
"""
