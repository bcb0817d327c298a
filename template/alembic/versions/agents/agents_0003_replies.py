"""executions that write replies of conversations"""

import sqlalchemy as sa
from alembic import op

revision = "agents_0003"
down_revision = "agents_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("executions", sa.Column("message_id", sa.Uuid(), nullable=True))
    op.add_column("executions", sa.Column("context", sa.JSON(), nullable=True))
    op.add_column("executions", sa.Column("attempt", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("executions", sa.Column("stop_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("approvals", sa.Column("kind", sa.String(32), nullable=False, server_default="approval"))
    op.add_column("agents", sa.Column("reasoning_effort", sa.String(16), nullable=True))
    op.add_column("agents", sa.Column("output_schema", sa.JSON(), nullable=True))
    op.create_index("ix_executions_message_id", "executions", ["message_id"])
    failed = sa.text("status = 'failed'")
    op.create_index("ix_executions_failed", "executions", ["id"], sqlite_where=failed, postgresql_where=failed)


def downgrade() -> None:
    op.drop_column("agents", "output_schema")
    op.drop_index("ix_executions_failed", "executions")
    op.drop_index("ix_executions_message_id", "executions")
    op.drop_column("approvals", "kind")
    op.drop_column("agents", "reasoning_effort")
    for name in ("stop_requested", "attempt", "context", "message_id"):
        op.drop_column("executions", name)
