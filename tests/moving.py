"""Makes a template of a few files, of which a later release has moved, split and renamed many."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import copier
from processes import parley, run
from releases import commit, git, write

QUESTIONS = "_subdirectory: template\n_min_copier_version: '9.19.0'\nname: {type: str, default: bot}\n"
ANSWERS = "{{ _copier_answers | to_nice_yaml }}"
PYPROJECT = '[project]\nname = "{{ name }}"\nversion = "1"\n\n[tool.ruff]\nline-length = 120\n'
BEFORE = {
    ".copier-answers.yml.jinja": ANSWERS,
    "pyproject.toml.jinja": PYPROJECT,
    "app/__init__.py": "",
    "app/core/__init__.py": "",
    "app/core/clock.py": 'def now() -> int:\n    """The time."""\n    return 1\n',
    "app/core/events.py": '''"""Texts that grow."""

from app.core.clock import now

KEEP = 60
"""Seconds."""


class Log:
    text = ""

    def add(self, text: str) -> None:
        self.text += text


# Of this process.
class MemoryEvents:
    def __init__(self) -> None:
        self.logs: dict[str, Log] = {}

    def open(self, key: str) -> Log:
        return self.logs.setdefault(key, Log())


def open_events() -> MemoryEvents:
    return MemoryEvents()
''',
    "app/core/throttle.py": """class Throttle:
    def hit(self, key: str) -> bool:
        return bool(key)


def is_open(throttle: Throttle) -> bool:
    return throttle.hit("a")
""",
    "app/services/__init__.py": "",
    "app/services/chat.py": '''"""Conversations."""

from app.core.events import Log, open_events

LIMIT = 10


class ChatSettings:
    limit = LIMIT


class ChatService:
    def send(self, text: str) -> Log:
        log = open_events().open("a")
        log.add(text)
        return log
''',
    "app/api.py": """from app.core import events
from app.core.throttle import Throttle
from app.services.chat import ChatService, ChatSettings

settings = ChatSettings()


def send(text: str) -> events.Log:
    if not Throttle().hit(text):
        raise ValueError
    return ChatService().send(text)


def fresh() -> events.MemoryEvents:
    return events.open_events()
""",
    "app/providers/__init__.py": "",
    "app/providers/offline.py": 'NAME = "offline"\n',
    "README.md.jinja": "# {{ name }}\n\nSee app/core/events.py.\n\nThe end.\n",
}
MOVES = """
2.0.0:
  files:
    app/core/events.py: app/core/streams/base.py
    app/core/throttle.py: app/core/rate_limits.py
    app/services/chat.py: app/services/chat/messages.py
    app/providers/: app/speech/providers/
  names:
    app.core.events.MemoryEvents: app.core.streams.memory.MemoryEvents
    app.core.events.open_events: app.core.streams.factory.open_streams
    app.core.throttle.Throttle: app.core.rate_limits.RateLimiter
    app.services.chat.ChatSettings: app.services.chat.settings.ChatSettings
    app.services.chat.LIMIT: app.services.chat.settings.LIMIT
"""
AFTER = {
    **{name: BEFORE[name] for name in (".copier-answers.yml.jinja", "pyproject.toml.jinja", "app/__init__.py")},
    **{name: BEFORE[name] for name in ("app/core/__init__.py", "app/core/clock.py", "app/services/__init__.py")},
    "app/core/streams/__init__.py": "",
    "app/core/streams/base.py": '''"""Texts that grow."""

KEEP = 60
"""Seconds."""


class Log:
    """One of them."""

    text = ""

    def add(self, text: str) -> None:
        self.text += text
''',
    "app/core/streams/memory.py": """from app.core.streams.base import Log


# Of this process.
class MemoryEvents:
    def __init__(self) -> None:
        self.logs: dict[str, Log] = {}

    def open(self, key: str) -> Log:
        return self.logs.setdefault(key, Log())
""",
    "app/core/streams/factory.py": """from app.core.streams.memory import MemoryEvents


def open_streams() -> MemoryEvents:
    return MemoryEvents()
""",
    "app/core/rate_limits.py": """class RateLimiter:
    def hit(self, key: str) -> bool:
        return bool(key)


def is_open(throttle: RateLimiter) -> bool:
    return throttle.hit("a")
""",
    "app/services/chat/__init__.py": "",
    "app/services/chat/settings.py": "LIMIT = 20\n\n\nclass ChatSettings:\n    limit = LIMIT\n",
    "app/services/chat/messages.py": '''"""Conversations."""

from app.core.streams.base import Log
from app.core.streams.factory import open_streams


class ChatService:
    def send(self, text: str) -> Log:
        log = open_streams().open("a")
        log.add(text)
        return log
''',
    "app/api.py": """from app.core.rate_limits import RateLimiter
from app.core.streams.base import Log
from app.core.streams.factory import open_streams
from app.core.streams.memory import MemoryEvents
from app.services.chat.messages import ChatService
from app.services.chat.settings import ChatSettings

settings = ChatSettings()


def send(text: str) -> Log:
    if not RateLimiter().hit(text):
        raise ValueError
    return ChatService().send(text)


def fresh() -> MemoryEvents:
    return open_streams()
""",
    "app/speech/__init__.py": "",
    "app/speech/providers/__init__.py": "",
    "app/speech/providers/offline.py": 'NAME = "offline"\n',
    "notes.txt": "The template's.\n",
    "tests/test_rates.py": "from app.core.rate_limits import RateLimiter\n\nassert RateLimiter\n",
    "README.md.jinja": "# {{ name }}\n\nSee app/core/streams/base.py.\n\nThe end.\n",
}


def make_moving(folder: Path, after: Mapping[str, str] = AFTER, moves: str = MOVES) -> Path:
    git(folder, "init", "--quiet")
    write(folder / "copier.yml", QUESTIONS)
    for version, files in (("1.0.0", BEFORE), ("2.0.0", after)):
        if version == "2.0.0":
            git(folder, "rm", "-r", "--quiet", "template")
            write(folder / "moves.yml", moves)
        for name, text in files.items():
            write(folder / "template" / name, text)
        write(folder / "pyproject.toml", f'version = "{version}"\n')
        write(folder / "CHANGELOG.md", f"## [Unreleased]\n\n## [{version}]\n\n### By hand\n\nNothing.\n")
        commit(folder, version)
        git(folder, "tag", f"v{version}")
    return folder


@dataclass
class Moving:
    """Edits and updates a project of the first release."""

    folder: Path

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            write(self.folder / name, text)
        commit(self.folder)

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text(encoding="utf-8")
        assert old in text
        self.write({name: text.replace(old, new)})

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def parley(self, *arguments: str) -> CompletedProcess[str]:
        return parley(*arguments, cwd=self.folder)

    def update(self, *arguments: str) -> str:
        done = self.parley("update", "--yes", *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def imports(self) -> str:
        """Returns the output of a program that imports each of the project's modules; nothing when all is well."""
        program = (
            "import importlib, pathlib\n"
            "for path in sorted(pathlib.Path('app').rglob('*.py')):\n"
            "    importlib.import_module('.'.join(path.with_suffix('').parts).removesuffix('.__init__'))\n"
        )
        return run(sys.executable, "-B", "-c", program, cwd=self.folder).stdout

    def files(self) -> dict[str, str]:
        names = git(self.folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]
        return {name: self.read(name) for name in sorted(names) if (self.folder / name).is_file()}


def make_project(template: Path, folder: Path) -> Moving:
    copier.run_copy(str(template), folder, vcs_ref="v1.0.0", defaults=True, quiet=True)
    git(folder, "init", "--quiet")
    commit(folder, "as it was made")
    return Moving(folder)
