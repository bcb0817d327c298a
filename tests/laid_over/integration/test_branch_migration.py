"""Tests that conversations of versions before 0.2 keep all their messages, and get their order, when branches come."""

from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from uuid_utils.compat import uuid7

from app.core.config import Settings
from app.models.base import UTCDateTime, now
from app.models.message import MessageStatus, Role
from app.models.user import User
from tests.integration.test_migrations import alembic, ask, settings

__all__ = ["alembic", "settings"]
"""Exports the fixtures of another module."""

BEFORE = "chat_0002"
CONVERSATIONS, MESSAGES = 1_000, 100


def table(name: str, *columns: str) -> sa.TableClause:
    """Describes a table with the columns that it had."""
    ids, times = ("id", "user_id", "conversation_id"), ("created_at", "updated_at")
    kinds: dict[str, Any] = {**dict.fromkeys(ids, sa.Uuid()), **dict.fromkeys(times, UTCDateTime())}
    return sa.table(name, *(sa.column(column, kinds.get(column)) for column in columns))


Conversations = table("conversations", "id", "created_at", "updated_at", "user_id", "title", "last_message_id")
Messages = table(
    "messages", "id", "created_at", "conversation_id", "position", "role", "status", "content", "stop_requested"
)


def fill(connection: sa.Connection) -> list[Any]:
    """Stores conversations, whose last messages are in the opposite order, and one without messages; returns the ids
    as lists show them now."""
    user = {"id": uuid7(), "email": "ada@example.com", "full_name": "Ada", "hashed_password": "-"}
    connection.execute(sa.insert(User.__table__), [user])  # pyright: ignore[reportArgumentType]
    ids = [uuid7() for _ in range(CONVERSATIONS)]
    connection.execute(sa.insert(Conversations), [conversation(id, user["id"]) for id in ids])
    for id in reversed(ids):
        connection.execute(sa.insert(Messages), [message(id, number) for number in range(1, MESSAGES + 1)])
    empty = uuid7()
    connection.execute(sa.insert(Conversations), [conversation(empty, user["id"])])
    return [empty, *ids]


def conversation(id: Any, user_id: Any) -> dict[str, Any]:
    return {"id": id, "user_id": user_id, "title": "Plans", "created_at": now(), "updated_at": now()}


def message(conversation_id: Any, number: int) -> dict[str, Any]:
    role = Role.user if number % 2 else Role.assistant
    kind = {"role": role.name, "status": MessageStatus.completed.name, "stop_requested": False}
    place = {"conversation_id": conversation_id, "position": number, "content": f"message {number}"}
    return {"id": uuid7(), "created_at": now()} | kind | place


def digest(connection: sa.Connection) -> tuple[Any, ...]:
    """Describes all messages."""
    id = sa.cast(Messages.c.id, sa.String)
    columns = (sa.func.count(), sa.func.sum(Messages.c.position), sa.func.min(id), sa.func.max(id))
    return tuple(connection.execute(sa.select(*columns)).one())


def test_all_messages_are_kept_and_the_last_ones_order_conversations(alembic: Config, settings: Settings) -> None:
    command.upgrade(alembic, BEFORE)
    order = ask(settings, fill)
    before = ask(settings, digest)
    command.upgrade(alembic, "heads")
    newest_first = sa.select(Conversations.c.id).order_by(Conversations.c.last_message_id.desc())
    assert ask(settings, lambda connection: list(connection.scalars(newest_first))) == order
    assert ask(settings, digest) == before
    command.downgrade(alembic, f"chat@{BEFORE}")
    assert ask(settings, digest) == before
    command.upgrade(alembic, "heads")
    command.check(alembic)
