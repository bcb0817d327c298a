"""Tests updates of projects whose template has moved, split and renamed what their owners edited and import."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from moving import AFTER, MOVES, Moving, make_moving, make_project
from processes import ROOT, environment, parley, run, succeed
from releases import commit, git
from small import needs_git

pytestmark = needs_git

EDITS = (
    ("app/core/events.py", "from app.core.clock import now\n", "import json\n\nfrom app.core.clock import now\n"),
    (
        "app/core/events.py",
        "        return self.logs",
        "        assert json.dumps(key)  # mine\n        return self.logs",
    ),
    ("app/core/events.py", "        self.text += text\n", "        self.text += text + str(now())  # mine\n"),
    ("app/core/throttle.py", "class Throttle:\n", "class Throttle:\n    mine = 1\n\n"),
    ("app/services/chat.py", "    limit = LIMIT", "    limit = LIMIT\n    mine = helper()"),
    ("app/services/chat.py", "class ChatSettings", "def helper() -> int:\n    return 3\n\n\nclass ChatSettings"),
    ("app/api.py", "settings = ChatSettings()", "settings = ChatSettings()\nmine = events.KEEP"),
    ("README.md", "The end.\n", "The end of app/core/throttle.py.\n"),
)
OWN = {
    "app/mine.py": '''from unittest.mock import patch

import app.core.events
import app.providers.offline as off
from app.core import clock
from app.core import events as ev
from app.core.events import Log, open_events
from app.core.throttle import Throttle
from app.services import chat
from app.services.chat import LIMIT, ChatService


def use(throttle: Throttle) -> "Log":
    """See app/core/throttle.py and app.core.events.open_events."""
    from app.providers.mine import X

    print(ev.MemoryEvents(), app.core.events.Log(), chat.ChatSettings, chat.ChatService, LIMIT, clock.now())
    with patch("app.services.chat.ChatSettings"), patch("app.services.chat.open_events"):
        ChatService().send(X + off.NAME)
    return open_events().open("a") if throttle else app.core.events.open_events().open("b")
''',
    "app/providers/mine.py": "from .offline import NAME\n\nX = NAME\n",
    "k8s/worker.yaml": "module: app.core.throttle.Throttle\nfile: app/services/chat.py\nother: app.asgi:app\n",
}
OWN_AFTER = {
    "app/mine.py": '''from unittest.mock import patch

import app.core.streams.base
import app.core.streams.factory
import app.speech.providers.offline as off
from app.core import clock
from app.core.rate_limits import RateLimiter
from app.core.streams.base import Log
from app.core.streams.factory import open_streams
from app.core.streams.memory import MemoryEvents
from app.services.chat import messages
from app.services.chat.messages import ChatService
from app.services.chat.settings import LIMIT, ChatSettings


def use(throttle: RateLimiter) -> "Log":
    """See app/core/rate_limits.py and app.core.streams.factory.open_streams."""
    from app.speech.providers.mine import X

    print(MemoryEvents(), app.core.streams.base.Log(), ChatSettings, messages.ChatService, LIMIT, clock.now())
    with patch("app.services.chat.settings.ChatSettings"), patch("app.services.chat.messages.open_streams"):
        ChatService().send(X + off.NAME)
    return open_streams().open("a") if throttle else app.core.streams.factory.open_streams().open("b")
''',
    "app/speech/providers/mine.py": "from app.speech.providers.offline import NAME\n\nX = NAME\n",
    "k8s/worker.yaml": (
        "module: app.core.rate_limits.RateLimiter\nfile: app/services/chat/messages.py\nother: app.asgi:app\n"
    ),
}
USE = "from app.mine import use\nfrom app.core.rate_limits import RateLimiter\nassert use(RateLimiter())\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_moving(tmp_path_factory.mktemp("template"))


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Moving:
    return make_project(template, tmp_path / "project")


def live_in(project: Moving) -> None:
    for name, old, new in EDITS:
        project.replace(name, old, new)
    project.write(OWN)


def test_what_was_written_follows_what_moved(project: Moving) -> None:
    live_in(project)
    said = project.update()
    assert "  app/core/events.py -> app/core/streams/base.py with what you wrote\n" in said
    assert "  app/providers/offline.py -> app/speech/providers/offline.py\n" in said
    assert "CONFLICT" not in said.upper()
    assert "Left for you" not in said
    assert project.imports() == ""
    succeed(sys.executable, "-B", "-c", USE, cwd=project.folder)
    assert {name: project.read(name) for name in OWN_AFTER} == OWN_AFTER
    assert "import json\n\nfrom app.core.streams.base import Log\n" in project.read("app/core/streams/memory.py")
    assert "        assert json.dumps(key)  # mine\n" in project.read("app/core/streams/memory.py")
    base = project.read("app/core/streams/base.py")
    assert "json" not in base
    assert '    """One of them."""' in base
    assert "text + str(now())  # mine" in base
    assert project.read("app/core/rate_limits.py").startswith("class RateLimiter:\n    mine = 1\n")
    settings = project.read("app/services/chat/settings.py")
    assert "LIMIT = 20\n\n\ndef helper() -> int:\n    return 3\n\n\nclass ChatSettings:" in settings
    assert "    limit = LIMIT\n    mine = helper()\n" in settings
    assert "helper" not in project.read("app/services/chat/messages.py")
    assert "mine = base.KEEP\n" in project.read("app/api.py")
    assert project.read("README.md").endswith("The end of app/core/rate_limits.py.\n")
    assert not [name for name in project.files() if name.startswith(("app/core/events", "app/providers"))]
    for check in (("check", "--select=F,I"), ("format", "--check")):
        succeed("ruff", *check, "--no-cache", "app", cwd=project.folder)


def test_doing_it_again_changes_nothing(project: Moving) -> None:
    live_in(project)
    project.update()
    done = project.files()
    for message in ("", "updated"):
        assert "All files are up to date" in project.parley("finish").stdout
        assert project.files() == done
        if message:
            commit(project.folder, message)
    assert "there is nothing newer" in project.update()
    project.replace("app/core/streams/base.py", "# mine", "# still mine")
    assert project.parley("finish").returncode == 0
    assert "# still mine" in project.read("app/core/streams/base.py")


@pytest.mark.parametrize("commits", [False, True])
def test_plain_copier_and_finish_do_the_same(template: Path, tmp_path: Path, commits: bool) -> None:
    one, other = (make_project(template, tmp_path / name / "project") for name in ("one", "other"))
    for project in (one, other):
        live_in(project)
    one.update()
    succeed("copier", "update", "--defaults", "--quiet", cwd=other.folder)
    assert other.imports()
    if commits:
        commit(other.folder, "updated")
    said = other.parley("finish").stdout
    assert "  app/core/streams/memory.py\n" in said
    assert other.files() == one.files()


@pytest.mark.parametrize("by", ["parley", "copier"])
def test_what_is_written_beside_a_docstring_does_not_conflict(by: str, tmp_path: Path) -> None:
    clock, template = "app/core/clock.py", tmp_path / "template"
    template.mkdir()
    make_moving(template, {**AFTER, clock: 'def now() -> int:\n    """Returns the time."""\n    return 1\n'})
    project = make_project(template, tmp_path / "project")
    project.replace(clock, "    return 1", "    # mine\n    return 2")
    if by == "parley":
        assert "CONFLICT" not in project.update().upper()
    else:
        succeed("copier", "update", "--defaults", "--quiet", cwd=project.folder)
        assert "<<<<<<<" in project.read(clock)
        assert clock in project.parley("finish").stdout
    assert project.read(clock) == 'def now() -> int:\n    """Returns the time."""\n    # mine\n    return 2\n'


def test_a_file_in_the_way_makes_room(project: Moving) -> None:
    project.write(
        {
            "app/core/rate_limits.py": "MINE = 1\n",
            "tests/test_rates.py": "from app.core.rate_limits import MINE\n\nassert MINE\n",
            "notes.txt": "Mine.\n",
            "app/core/streams.py": "from app.core.rate_limits import MINE\n\nALSO = MINE\n",
            "app/mine.py": (
                "from app.core import rate_limits\nfrom app.core.streams import ALSO\n\nX = rate_limits.MINE + ALSO\n"
            ),
        }
    )
    said = project.update()
    assert "  app/core/rate_limits.py -> app/core/own_rate_limits.py with what you wrote\n" in said
    assert project.read("app/core/own_rate_limits.py") == "MINE = 1\n"
    assert "class RateLimiter" in project.read("app/core/rate_limits.py")
    assert project.imports() == ""
    succeed(sys.executable, "-B", "-c", "from app.mine import X\nassert X == 2", cwd=project.folder)
    assert project.read("tests/test_own_rates.py") == "from app.core.own_rate_limits import MINE\n\nassert MINE\n"
    assert "RateLimiter" in project.read("tests/test_rates.py")
    assert "Settle the conflicts between <<<<<<< and >>>>>>> first, in notes.txt" in said
    assert "Mine.\n" in project.read("notes.txt")


def test_a_slice_in_the_way_is_refused(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    make_moving(template, {**AFTER, "app/models/file.py": "class File: ...\n"})
    project = make_project(template, tmp_path / "project")
    project.write({"app/models/file.py": "class File: mine = 1\n"})
    before = project.files()
    done = project.parley("update", "--yes")
    assert done.returncode == 1
    assert "files of its own where you have app/models/file.py: give yours another name first" in done.stdout
    assert project.files() == before


def test_what_was_deleted_stays_deleted(project: Moving) -> None:
    git(project.folder, "rm", "--quiet", "app/providers/offline.py", "app/providers/__init__.py")
    commit(project.folder)
    project.update()
    assert not (project.folder / "app/speech/providers/offline.py").exists()


def test_a_conflict_is_in_the_new_place(project: Moving) -> None:
    project.replace("app/services/chat.py", "LIMIT = 10", "LIMIT = 11")
    project.replace("app/core/events.py", "class Log:\n    text", "class Log:\n    # Mine.\n    text")
    said = project.update()
    assert "the same lines:\n  app/core/streams/base.py\n  app/services/chat/settings.py\n" in said
    assert "first, in app/core/streams/base.py, app/services/chat/settings.py" in said
    settings = project.read("app/services/chat/settings.py")
    assert settings.startswith("<<<<<<< before updating\nLIMIT = 11\n=======\nLIMIT = 20\n>>>>>>> after updating\n")
    assert "    # Mine.\n" in project.read("app/core/streams/base.py")


def test_what_cannot_be_followed_is_said(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    make_moving(template, moves=f"{MOVES}    app.core.events.Log.add: app.core.streams.base.Log.append\n")
    project = make_project(template, tmp_path / "project")
    project.write({"app/mine.py": "from app.core.events import *\nfrom app.core.events import GONE\n"})
    said = project.update()
    assert "app/mine.py: `from app.core.events import *` no longer brings MemoryEvents, open_events." in said
    assert "app/mine.py, line 2: there is no app.core.streams.base.GONE." in said
    assert "`uv run pyright` names where you use app.core.events.Log.add." in said


@pytest.mark.parametrize("variables", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_it_works_below_a_larger_repository(template: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    """Puts the project into a repository with non-ASCII file names, of which the update must touch no other file."""
    project = make_project(template, tmp_path / "all" / "größe" / "bot")
    (project.folder / ".git").rename(tmp_path / "unused.git")
    git(tmp_path / "all", "init", "--quiet")
    (tmp_path / "all" / "other.py").write_text("from app.core.events import Log\n", encoding="utf-8")
    (project.folder / "app" / "größe.py").write_text("from app.core.events import Log as Größe\n", encoding="utf-8")
    commit(tmp_path / "all")
    done = parley("update", "--yes", cwd=project.folder, **variables)
    assert done.returncode == 0, done.stdout
    assert project.read("app/größe.py") == "from app.core.streams.base import Log as Größe\n"
    assert (tmp_path / "all" / "other.py").read_text(encoding="utf-8") == "from app.core.events import Log\n"
    assert project.imports() == ""


def test_an_update_that_is_killed_is_taken_back_and_done_again(project: Moving) -> None:
    live_in(project)
    before = project.files()
    command = (sys.executable, "-m", "parley", "update", "--yes")
    told = environment(PYTHONPATH=str(ROOT))
    with subprocess.Popen(command, cwd=project.folder, env=told, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        back: list[str] = []
        for line in process.stdout:
            if line.startswith("  git "):
                back.append(line.strip())
            if len(back) == 2:
                break
        while not (project.folder / "app/core/streams").exists() and process.poll() is None:
            time.sleep(0.001)  # another program writes it, and does not say when
        os.kill(process.pid, signal.SIGKILL)
    for line in back:
        succeed("sh", "-c", line, cwd=project.folder)
    assert project.files() == before
    project.update()
    assert {name: project.read(name) for name in OWN_AFTER} == OWN_AFTER


def test_it_is_installed_with_all_of_it(tmp_path: Path) -> None:
    done = run("uvx", "--from", str(ROOT), "parley", "update", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path} is in no git repository, or in one without a commit" in done.stdout
