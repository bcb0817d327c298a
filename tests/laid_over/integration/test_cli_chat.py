"""Tests chat on the command line, and its migrations."""

import ast
import re
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from fastapi import FastAPI

from app.api.v1.chat import chat_of
from app.cli.chat import LOCAL_ACCOUNT, ChatSession, account, ask
from app.core.commands import full_command
from app.core.errors import SetupError
from app.services.ai import ModelFailure, Piece, Prompt
from tests.chats import Scripted
from tests.integration.conftest import InProcess, Project, branch, newest, remove_own_revisions

FILES = (
    "alembic/versions/chat",
    "app/api/v1/chat.py",
    "app/api/v1/conversations.py",
    "app/cli/chat.py",
    "app/models/conversation.py",
    "app/models/message.py",
    "app/repositories/conversation.py",
    "app/repositories/message.py",
    "app/repositories/reply.py",
    "app/schemas/conversation.py",
    "app/schemas/message.py",
    "app/services/chat/recovery.py",
    "app/services/chat/messages.py",
    "app/services/chat/reply_text.py",
    "app/services/chat/conversations.py",
    "app/services/chat/stream.py",
    "app/services/chat/replies.py",
)
MODELS = {"__init__", "__pycache__", "base", "conversation", "idempotency_key", "message", "process", "user"}
"""Names the modules of models that every project begins with."""

PROBE = """
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class Probe(Base):
    __tablename__ = "probes_of_the_tests"

    message_id: Mapped[UUID] = mapped_column(sa.ForeignKey("messages.id", ondelete="CASCADE"))
"""


def without_additions(project: Project) -> Project:
    """Removes models and revisions that the project's owner added, which may depend on the tables of chat."""
    remove_own_revisions(project.folder)
    models = project.folder / "app" / "models"
    return without(project, [path for path in models.iterdir() if path.stem not in MODELS])


def without_chat(project: Project) -> Project:
    return without(project, [project.folder / name for name in FILES])


def without(project: Project, paths: list[Path]) -> Project:
    """Removes the files, and the modules that import them, which only the owner of the project can have added."""
    gone: set[str] = set()
    while paths:
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            gone.add(".".join(path.relative_to(project.folder).with_suffix("").parts))
        paths = [path for path in project.folder.glob("app/**/*.py") if gone.intersection(imported(path))]
    return project


def imported(path: Path) -> Iterator[str]:
    """Yields the modules and packages, and the names in them, that are imported as soon as this module is."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def tables(project: Project) -> set[str]:
    with closing(sqlite3.connect(project.folder / "app.db")) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def stored(project: Project) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(project.folder / "app.db")) as database:
        rows = "SELECT conversation_id, role, status FROM messages ORDER BY position"
        return database.execute(rows).fetchall()


def bytes_of(project: Project, *arguments: str, typed: bytes = b"", **settings: str) -> bytes:
    """Runs a command that succeeds and says nothing on standard error, and returns what it prints."""
    command, env = project.command(*arguments), project.environment(**settings)
    done = subprocess.run(command, cwd=project.folder, env=env, input=typed, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def stored_texts(project: Project) -> list[str]:
    with closing(sqlite3.connect(project.folder / "app.db")) as database:
        return [text for (text,) in database.execute("SELECT content FROM messages ORDER BY created_at, position")]


def test_one_message_is_answered_once(in_process: InProcess, database_url: str) -> None:
    said = in_process.succeed("chat", "What is up?", DATABASE_URL=database_url)
    assert said.startswith("You said: “What is up?”")
    assert said.endswith("then start again.\n")


def test_an_effort_is_asked_for_and_the_answer_alone_is_printed(in_process: InProcess, database_url: str) -> None:
    said = in_process.succeed("chat", "--effort", "high", "What is up?", DATABASE_URL=database_url)
    assert said.startswith("You said: “What is up?”")
    sentence = in_process.fail("chat", "--effort", "huge", "What is up?", DATABASE_URL=database_url)
    assert "'--effort'" in sentence
    assert "'none', 'minimal'" in sentence


def test_a_conversation_goes_on_until_one_leaves_it(prepared: Project) -> None:
    with prepared.at_terminal("chat", MESSAGE_MAX_CHARACTERS="6") as terminal:
        for message, end in (("first", "again."), ("too long", "at most 6 characters."), ("second", "again.")):
            terminal.wait_for("> ")
            terminal.type(f"{message}\n")
            terminal.wait_for(end)
        terminal.wait_for("> ")
        terminal.interrupt()
        assert terminal.ended() == 0
    assert "Traceback" not in terminal.screen
    assert len({conversation for conversation, _, _ in stored(prepared)}) == 1
    assert [status for _, _, status in stored(prepared)] == ["completed"] * 4


JOINED = "👨\N{ZERO WIDTH JOINER}👩 ❤\N{VARIATION SELECTOR-16} :bug: [red]é"
SPELT = f"10\N{NO-BREAK SPACE}000 € 空\N{IDEOGRAPHIC SPACE}白 {JOINED}\n\ttab"


class Spelling(Scripted):
    """Answers in pieces that divide letters and escape sequences."""

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        for character in f"\x1b[31m{SPELT}\x9b0m\x1b]0;title\x07\u202e\r!\x1b[":
            yield character


async def test_a_reply_is_shown_with_every_letter_and_obeyed_nowhere(
    app: FastAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    app.state.replies._ai = Spelling()
    talk = ChatSession(chat_of(app.state, await account(app.state, LOCAL_ACCOUNT)), app.state.replies)
    await talk.say("hello")
    assert capsys.readouterr().out == f"{SPELT}!\n"


def test_a_terminal_shows_joined_emoji(prepared: Project) -> None:
    with prepared.at_terminal("chat", JOINED) as terminal:
        assert terminal.ended() == 0
    assert f"“{JOINED}”" in re.sub(r"\x1b\[[0-9;]*m", "", terminal.screen)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "utf-8", "ascii:strict"])
def test_a_console_gets_what_its_encoding_has(prepared: Project, encoding: str) -> None:
    said = bytes_of(prepared, "chat", "zoë € “hello”", PYTHONIOENCODING=encoding)
    name = encoding.partition(":")[0]
    assert "You said: “zoë € “hello””. I am".encode(name, "replace") in said


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8"])
def test_what_is_typed_is_read_in_the_encoding_of_the_console(prepared: Project, encoding: str) -> None:
    said = bytes_of(prepared, "chat", typed="größe ÿ\n".encode(encoding), PYTHONIOENCODING=encoding)
    assert "größe ÿ".encode(encoding) in said
    assert stored_texts(prepared)[0] == "größe ÿ"


@pytest.mark.parametrize(("encoding", "typed"), [("utf-8", b"gr\xf6\xdfe\n"), ("ascii", "größe\n".encode())])
def test_what_is_typed_in_another_encoding_is_told_and_the_talk_goes_on(
    prepared: Project, encoding: str, typed: bytes
) -> None:
    said = bytes_of(prepared, "chat", typed=typed + b"plain\n", PYTHONIOENCODING=encoding).decode()
    assert f"What was typed is not text in {encoding}: set PYTHONIOENCODING" in said
    assert stored_texts(prepared)[0] == "plain"


def test_the_locale_c_loses_nothing(prepared: Project) -> None:
    for variables in ({"LANG": "C"}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}):
        assert f"You said: “{JOINED}”.".encode() in bytes_of(prepared, "chat", JOINED, typed=b"", **variables)
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert b"You said: ?10 000?. I am" in bytes_of(prepared, "chat", "10 000", typed=b"", **ascii_only)


@pytest.mark.parametrize("typed", ["exit\n", " Quit\n", ""])
def test_one_leaves_by_a_word_or_by_the_end_of_the_input(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(typed))
    assert ask() is None


def test_ctrl_c_during_a_reply_keeps_what_was_said(prepared: Project) -> None:
    with prepared.at_terminal("chat", "hello", DEMO_MODEL_DELAY="0.5") as terminal:
        terminal.wait_for("You")
        terminal.interrupt()
        assert terminal.ended() == 130
    assert "Traceback" not in terminal.screen
    assert [status for _, _, status in stored(prepared)] == ["completed", "interrupted"]


class Broken(Scripted):
    """Fails after its first words."""

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        yield "Well"
        raise ModelFailure("model_timeout", "The model did not answer in time.")


async def test_a_reply_that_fails_says_why(app: FastAPI, capsys: pytest.CaptureFixture[str]) -> None:
    state = app.state
    state.replies._ai = Broken()
    user_id = await account(state, LOCAL_ACCOUNT)
    talk = ChatSession(chat_of(state, user_id), state.replies)
    with pytest.raises(SetupError, match="The model did not answer in time"):
        await talk.say("hello")
    assert capsys.readouterr().out == "Well\n"


def test_only_those_who_exist_can_talk(in_process: InProcess, database_url: str) -> None:
    sentence = in_process.fail("chat", "--user", "nobody@example.com", "hello", DATABASE_URL=database_url)
    create = full_command("users create nobody@example.com")
    assert sentence == f"There is no user nobody@example.com: create one with {create}."


def test_a_model_that_refers_to_messages_depends_on_chat(prepared: Project) -> None:
    (prepared.folder / "app" / "models" / "probe_of_the_tests.py").write_text(PROBE)
    prepared.succeed("db", "revision", "add probes")
    [revision] = prepared.revisions
    assert f'depends_on = "{newest("chat")}"' in revision.read_text()


def test_a_model_that_refers_to_users_too_comes_to_a_new_database(prepared: Project) -> None:
    """Names each migration only once in `depends_on`: Alembic cannot apply one on which another of them depends."""
    owned = PROBE.replace("Base", "Owned").replace("probes", "owned_probes")
    (prepared.folder / "app" / "models" / "probe_of_the_tests.py").write_text(owned)
    prepared.succeed("db", "revision", "add probes")
    [revision] = prepared.revisions
    [depends_on] = re.findall(r"(?m)^depends_on = .*", revision.read_text())
    assert f'"{newest("chat")}"' in depends_on
    new = f"sqlite:///{prepared.folder}/new.db"
    *applied, _, agreed = prepared.run_all(["db", "upgrade"], ["db", "check"], DATABASE_URL=new).splitlines()
    assert any(line.endswith("add probes") for line in applied)
    assert "agree" in agreed


def test_the_rest_works_without_its_files_and_they_may_come_later(project: Project, compiled: Path) -> None:
    without_chat(without_additions(project))
    assert "chat" not in project.run_all(["db", "upgrade"], ["db", "current"])
    assert "users" in tables(project)
    assert tables(project).isdisjoint({"conversations", "messages"})
    shutil.copytree(compiled, project.folder, dirs_exist_ok=True)
    *applied, _, agreed = project.run_all(["db", "upgrade"], ["db", "check"]).splitlines()
    assert "Applied chat_0001: conversations and messages" in applied
    later = (branch("chat") | branch("project")) - {"project_0001"}
    assert sorted(line.split(":")[0] for line in applied) == sorted(f"Applied {revision}" for revision in later)
    assert "agree" in agreed


def test_its_tables_stay_when_its_files_go(project: Project) -> None:
    InProcess(without_additions(project).folder).succeed("db", "upgrade")
    said = without_chat(project).run_all(["db", "upgrade"], ["db", "current"])
    assert said.startswith("The database is up to date.\n")
    assert f"{newest('chat')}, switched off: its tables stay" in said
    assert {"conversations", "messages"} <= tables(project)
