"""conversations of a user, in order"""

from alembic import op

revision = "chat_0002"
down_revision = "chat_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_conversations_user_id_id", "conversations", ["user_id", "id"])


def downgrade() -> None:
    op.drop_index("ix_conversations_user_id_id", "conversations")
