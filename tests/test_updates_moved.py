"""Tests updates of edited projects to a release that has moved, split and renamed what they edited and import."""

import hashlib
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import lives
import pytest
from lives import WRITTEN, Life, databases, files
from move import move
from processes import parley, succeed
from proofs import Proofs
from releases import HERE, change, commit, git, real, write
from test_update import deadly
from test_updates import AFFECTED, VARIANTS, Begin, beginning

from parley.moves import module_of, read_moves
from parley.tidy import Tidy
from parley.update import BACK

pytestmark = [pytest.mark.deep, pytest.mark.slow, pytest.mark.updates]

MOVED, WITH_FILES = "v1003.0.0", "v1004.0.0"
MOVES = """
1003.0.0:
  files:
    app/core/rate_limits.py: app/core/limits.py
    app/core/shutdown.py: app/core/stopping.py
    app/services/accounts/users.py: app/services/people/users.py
    app/services/email/mailer.py: app/services/letters/mailer.py
    app/services/email/messages.py: app/services/letters/messages.py
  names:
    app.core.rate_limits.RateLimiter: app.core.limits.Limiter
    app.core.shutdown.Shutdown: app.core.stopping.Ending
    app.core.telemetry.spans.note_failure: app.core.telemetry.failures.mark_failed
"""
EDITS = (
    ("app/core/rate_limits.py", r"class (RateLimiter|Throttle):\n", f'\\g<0>    OWNER = "{WRITTEN}"\n\n'),
    ("app/core/telemetry/spans.py", r'(?s)(def note_failure.*?"""\n)', f"\\g<0>    # {WRITTEN}\n"),
    ("app/core/shutdown.py", r"class (Shutdown|Grace):\n", f"# {WRITTEN}\n\\g<0>"),
)
"""Lists edits by the paths of the template as it stands."""
OLDER = {"RateLimiter": "Throttle", "Shutdown": "Grace"}
"""Maps names of the template as it stands to those of older releases."""
OWN = """from unittest.mock import patch

from app.core.rate_limits import RateLimiter
from app.core.shutdown import Shutdown
from app.core.telemetry import spans
from app.services.accounts.users import MADE_BY


def test_it_is_all_there() -> None:
    with patch("app.core.rate_limits.RateLimiter.OWNER", "another"):
        assert RateLimiter.OWNER == "another"
    assert RateLimiter.OWNER == MADE_BY
    assert callable(spans.note_failure)
    assert spans.traced
    assert Shutdown
"""
OWN_AFTER = """from unittest.mock import patch

from app.core.limits import Limiter
from app.core.stopping import Ending
from app.core.telemetry import spans
from app.core.telemetry.failures import mark_failed
from app.services.people.users import MADE_BY


def test_it_is_all_there() -> None:
    with patch("app.core.limits.Limiter.OWNER", "another"):
        assert Limiter.OWNER == "another"
    assert Limiter.OWNER == MADE_BY
    assert callable(mark_failed)
    assert spans.traced
    assert Ending
"""
OWN_TEST = "tests/unit/test_own.py"


@pytest.fixture(scope="session")
def moved(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes the releases, one more that moved much, and one that brings a slice."""
    folder = tmp_path_factory.mktemp("moved")
    succeed("git", "clone", "--quiet", str(released), str(folder), cwd=folder)
    git(folder, "checkout", "--quiet", HERE)
    write(folder / "moves.yml", (folder / "moves.yml").read_text(encoding="utf-8") + MOVES)
    assert move(folder, read_moves(MOVES)) == []
    change(folder / "pyproject.toml", r'(?m)^version = ".*"$', f'version = "{MOVED.removeprefix("v")}"')
    commit(folder, MOVED)
    git(folder, "tag", MOVED)
    write(folder / "template/app/models/file.py", '"""Of the template."""\n')
    commit(folder, WITH_FILES)
    git(folder, "tag", WITH_FILES)
    return folder


@pytest.fixture
def begin(moved: Path, tmp_path: Path) -> Iterator[Begin]:
    with databases() as urls:
        yield beginning(moved, tmp_path / "project", urls)


def live_in(life: Life) -> None:
    life.edit()
    for name, pattern, text in EDITS:
        change(life.place(name), pattern, text)
    own = OWN
    for name in (*(name for name, _, _ in EDITS), "app/services/accounts/users.py"):
        then = life.place(name).relative_to(life.folder).as_posix()
        (package, module), (old_package, old_module) = (module_of(path).rsplit(".", 1) for path in (name, then))
        own = own.replace(f"{package}.{module}", f"{old_package}.{old_module}")
        own = own.replace(f"from {package} import {module}", f"from {old_package} import {old_module}")
        for called in ("note_failure", "traced"):
            own = own.replace(f"{module}.{called}", f"{old_module}.{called}")
        if then != name:
            own = re.sub(r"\b(RateLimiter|Shutdown)\b", lambda found: OLDER[found[0]], own)
    write(life.folder / OWN_TEST, Tidy(life.folder, ("app", "tests")).text(own, OWN_TEST))
    life.save("what I changed")
    life.migrate("add notes")
    life.fill()


def expect_moved(life: Life) -> None:
    """Expects what was written where it is now, but for the user's own test, in which names have changed."""
    moves = read_moves(MOVES)
    kept = {moves.path(lives.MOVES.path(name)): text for name, text in life.written.items() if name != OWN_TEST}
    kept["app/core/telemetry/failures.py"] = Counter(
        {line: count for line, count in kept.pop("app/core/telemetry/spans.py").items() if line}
    )
    life.written = kept


@pytest.mark.parametrize("lived", VARIANTS)
@pytest.mark.parametrize("version", [*real(), HERE])
def test_what_was_written_follows(version: str, lived: str, begin: Begin, proofs: Proofs) -> None:
    life = begin(version, VARIANTS[lived])
    live_in(life)
    said = life.update("--to", MOVED)
    assert "CONFLICT" not in said.upper(), said
    assert "Left for you" not in said, said
    assert (life.folder / OWN_TEST).read_text(encoding="utf-8") == OWN_AFTER
    expect_moved(life)
    life.check_files()
    life.check_databases()
    assert "All files are up to date" in parley("finish", cwd=life.folder).stdout
    kind = hashlib.sha256(b"moved").hexdigest()[:8]
    proofs.of(f"{kind}-{life.code()}", f"{lived} of {version}", lambda: life.check_tests(*AFFECTED, OWN_TEST))


def test_an_update_is_taken_back(begin: Begin, tmp_path: Path) -> None:
    """Takes back an update that was killed in the middle, and one that came to its end; then it is done again."""
    life = begin(HERE, {})
    live_in(life)
    before = files(life.folder)
    killed = parley(
        "update", "--yes", "--to", MOVED, cwd=life.folder, PATH=deadly(tmp_path / "deadly", "apply", signal.SIGKILL)
    )
    assert killed.returncode == -signal.SIGKILL
    assert files(life.folder) != before
    take_back(life, before)
    life.update("--to", MOVED)
    moved = files(life.folder)
    take_back(life, before)
    life.update("--to", MOVED)
    assert files(life.folder) == moved
    expect_moved(life)
    life.check_files()


def take_back(life: Life, before: dict[str, bytes]) -> None:
    for command in BACK:
        succeed(*command.split(), cwd=life.folder)
    assert files(life.folder) == before


def test_a_slice_of_the_name_of_one_that_comes_is_refused(begin: Begin) -> None:
    life = begin(HERE, {})
    assert parley("new", "slice", "file", cwd=life.folder).returncode == 0
    life.migrate("add files")
    before = files(life.folder)
    done = parley("update", "--yes", "--to", WITH_FILES, cwd=life.folder)
    assert done.returncode == 1
    assert "files of its own where you have app/models/file.py: give yours another name first" in done.stdout
    assert files(life.folder) == before
    life.update("--to", MOVED)
    life.check_files()


@pytest.mark.parametrize("version", real())
def test_a_slice_suits_every_release(version: str, begin: Begin) -> None:
    life = begin(version, {})
    done = parley("new", "slice", "ticket", "title", "due:date?", "status:open|closed", cwd=life.folder)
    assert done.returncode == 0, done.stdout
    life.migrate("add tickets")
    life.check_tests("tests/integration/test_tickets.py")
