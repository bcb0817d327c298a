"""background jobs, answers of idempotent requests, and the usage of a day"""

import sqlalchemy as sa
from alembic import op

revision = "base_0002"
down_revision = "base_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "background_jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("queue", sa.String(32), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(200), nullable=True),
        sa.Column("run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("process_id", sa.Uuid(), nullable=True),
        sa.Column("error", sa.String(500), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_background_jobs"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_background_jobs_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_background_jobs_user_id_turn", "background_jobs", ["user_id", "turn"])
    for name, columns, status in (
        ("queued", ["queue", "priority", "turn", "id"], "queued"),
        ("scheduled", ["run_at"], "scheduled"),
        ("running", ["process_id"], "running"),
        ("failed", ["failed_at"], "failed"),
    ):
        of = sa.text(f"status = '{status}'")
        index = f"ix_background_jobs_{name}"
        op.create_index(index, "background_jobs", columns, sqlite_where=of, postgresql_where=of)
    waiting = sa.text("status IN ('queued', 'scheduled')")
    op.create_index(
        "ix_background_jobs_key",
        "background_jobs",
        ["key"],
        unique=True,
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.add_column("idempotency_keys", sa.Column("answer", sa.JSON(), nullable=True))
    op.add_column("idempotency_keys", sa.Column("process_id", sa.Uuid(), nullable=True))
    op.create_index("ix_usage_day", "usage", ["day"])


def downgrade() -> None:
    op.drop_index("ix_usage_day", "usage")
    op.drop_column("idempotency_keys", "process_id")
    op.drop_column("idempotency_keys", "answer")
    op.drop_table("background_jobs")
