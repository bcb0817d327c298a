"""executions of a user, in order, and those that have not ended"""

import sqlalchemy as sa
from alembic import op

revision = "agents_0002"
down_revision = "agents_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_executions_user_id_id", "executions", ["user_id", "id"])
    unfinished = sa.text("finished_at IS NULL")
    op.create_index(
        "ix_executions_unfinished", "executions", ["user_id"], sqlite_where=unfinished, postgresql_where=unfinished
    )


def downgrade() -> None:
    op.drop_index("ix_executions_unfinished", "executions")
    op.drop_index("ix_executions_user_id_id", "executions")
