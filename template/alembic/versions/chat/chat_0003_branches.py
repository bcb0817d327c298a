"""branches of conversations, their order by the last message, and replies of agents"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "chat_0003"
down_revision = "chat_0002"
branch_labels = None
depends_on = None

LISTS = {"current": "archived_at IS NULL", "archived": "archived_at IS NOT NULL", "pinned": "pinned"}

OF_AGENTS: dict[str, sa.types.TypeEngine[Any]] = {
    "parts": sa.JSON(),
    "entries": sa.JSON(),
    "history_tokens": sa.Integer(),
    "shortened_tokens": sa.Integer(),
    "agent_id": sa.Uuid(),
    "execution_id": sa.Uuid(),
}


def upgrade() -> None:
    op.add_column("messages", sa.Column("parent_id", sa.Uuid(), nullable=True))
    op.create_index("ix_messages_parent_id", "messages", ["parent_id"])
    for name, kind in OF_AGENTS.items():
        op.add_column("messages", sa.Column(name, kind, nullable=True))
    op.add_column("messages", sa.Column("summary", sa.Text(), nullable=True))
    for name in ("last_message_id", "active_message_id", "agent_id"):
        op.add_column("conversations", sa.Column(name, sa.Uuid(), nullable=True))
    op.add_column("conversations", sa.Column("model", sa.String(200), nullable=True))
    op.add_column("conversations", sa.Column("client_id", sa.String(64), nullable=True))
    op.create_index("ix_conversations_client_id", "conversations", ["user_id", "client_id"], unique=True)
    op.add_column("conversations", sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("conversations", sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "UPDATE conversations SET last_message_id = COALESCE((SELECT messages.id FROM messages"
        " WHERE messages.conversation_id = conversations.id ORDER BY messages.position DESC LIMIT 1), id)"
    )
    for name, which in LISTS.items():
        columns, of = ["user_id", "last_message_id"], sa.text(which)
        op.create_index(f"ix_conversations_{name}", "conversations", columns, sqlite_where=of, postgresql_where=of)
    op.drop_index("ix_conversations_user_id_id", "conversations")


def downgrade() -> None:
    op.create_index("ix_conversations_user_id_id", "conversations", ["user_id", "id"])
    for name in LISTS:
        op.drop_index(f"ix_conversations_{name}", "conversations")
    op.drop_index("ix_conversations_client_id", "conversations")
    for name in ("archived_at", "pinned", "client_id", "model", "agent_id", "active_message_id", "last_message_id"):
        op.drop_column("conversations", name)
    for name in ("summary", *OF_AGENTS):
        op.drop_column("messages", name)
    op.drop_index("ix_messages_parent_id", "messages")
    op.drop_column("messages", "parent_id")
