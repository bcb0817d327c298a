"""agents and executions"""

import sqlalchemy as sa
from alembic import op

revision = "agents_0001"
down_revision = None
branch_labels = ("agents",)
depends_on = "base_0001"


def upgrade() -> None:
    op.create_table(
        "tools",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("input_schema", sa.JSON(), nullable=False),
        sa.Column("policy", sa.String(32), nullable=False),
        sa.Column("available", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tools"),
        sa.UniqueConstraint("name", name="uq_tools_name"),
    )
    op.create_table(
        "agents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("model_name", sa.String(200), nullable=False),
        sa.Column("temperature", sa.Double(), nullable=False),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_agents"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_agents_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_agents_user_id", "agents", ["user_id"])
    op.create_table(
        "agent_tools",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column("tool_id", sa.Uuid(), nullable=False),
        sa.Column("policy", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agent_tools"),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_agent_tools_agent_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tool_id"], ["tools.id"], name="fk_agent_tools_tool_id", ondelete="CASCADE"),
        sa.UniqueConstraint("agent_id", "tool_id", name="uq_agent_tools_agent_id_tool_id"),
    )
    op.create_table(
        "agent_subagents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column("subagent_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agent_subagents"),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_agent_subagents_agent_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["subagent_id"], ["agents.id"], name="fk_agent_subagents_subagent_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("agent_id", "subagent_id", name="uq_agent_subagents_agent_id_subagent_id"),
    )
    op.create_index("ix_agent_subagents_subagent_id", "agent_subagents", ["subagent_id"])
    op.create_table(
        "executions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("parent_call_id", sa.String(32), nullable=True),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("code", sa.String(64), nullable=True),
        sa.Column("detail", sa.String(500), nullable=True),
        sa.Column("configuration", sa.JSON(), nullable=False),
        sa.Column("last_sequence", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("process_id", sa.Uuid(), nullable=True),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.Numeric(18, 9), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_executions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_executions_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_executions_agent_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["parent_id"], ["executions.id"], name="fk_executions_parent_id", ondelete="CASCADE"),
    )
    op.create_index("ix_executions_user_id", "executions", ["user_id"])
    op.create_index("ix_executions_agent_id", "executions", ["agent_id"])
    op.create_index("ix_executions_parent_id", "executions", ["parent_id"])
    op.create_index("ix_executions_finished_at", "executions", ["finished_at"])
    is_open = sa.text("status IN ('queued', 'running')")
    op.create_index(
        "ix_executions_open", "executions", ["process_id", "id"], sqlite_where=is_open, postgresql_where=is_open
    )
    op.create_table(
        "execution_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("entry", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_execution_events"),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["executions.id"], name="fk_execution_events_execution_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("execution_id", "sequence", name="uq_execution_events_execution_id_sequence"),
    )
    op.create_table(
        "approvals",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("tool_call_id", sa.String(32), nullable=False),
        sa.Column("tool", sa.String(64), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["executions.id"], name="fk_approvals_execution_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("execution_id", "tool_call_id", name="uq_approvals_execution_id_tool_call_id"),
    )
    op.create_index("ix_approvals_status_expires_at", "approvals", ["status", "expires_at"])
    op.create_table(
        "agent_notes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agent_notes"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_agent_notes_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_agent_notes_user_id", "agent_notes", ["user_id"])


def downgrade() -> None:
    for table in (
        "agent_notes",
        "approvals",
        "execution_events",
        "executions",
        "agent_subagents",
        "agent_tools",
        "agents",
        "tools",
    ):
        op.drop_table(table)
