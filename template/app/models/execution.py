from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import SECRET, Base, Owned
from app.models.usage import DOLLARS

OPEN = sa.text("status IN ('queued', 'running')")
"""What is looked for among these says so: databases cannot tell that their index is enough from another condition."""
UNFINISHED = sa.text("finished_at IS NULL")


class ExecutionStatus(StrEnum):
    queued = "queued"
    running = "running"
    waiting = "waiting"
    """For a person's approval, or for a subagent."""
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL = (ExecutionStatus.completed, ExecutionStatus.failed, ExecutionStatus.cancelled)


class Execution(Owned):
    """One task that an agent was given. A worker that runs it holds `run_id`, without which nothing is written."""

    __tablename__ = "executions"
    __table_args__ = (
        sa.Index("ix_executions_open", "process_id", "id", sqlite_where=OPEN, postgresql_where=OPEN),
        sa.Index("ix_executions_finished_at", "finished_at"),
        sa.Index("ix_executions_user_id_id", "user_id", "id"),
        sa.Index("ix_executions_unfinished", "user_id", sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
    )

    agent_id: Mapped[UUID] = mapped_column(sa.ForeignKey("agents.id", ondelete="CASCADE"), index=True)
    parent_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("executions.id", ondelete="CASCADE"), index=True)
    """The execution whose agent delegated this."""
    parent_call_id: Mapped[str | None] = mapped_column(sa.String(32))
    """By which of its calls."""
    status: Mapped[ExecutionStatus]
    input: Mapped[str] = mapped_column(sa.Text)
    output: Mapped[str | None] = mapped_column(sa.Text)
    code: Mapped[str | None] = mapped_column(sa.String(64))
    """Why it failed."""
    detail: Mapped[str | None] = mapped_column(sa.String(500))
    configuration: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    """What the agent was when the execution began."""
    last_sequence: Mapped[int] = mapped_column(default=0)
    """Of its events, which are numbered 1, 2, 3 …"""
    run_id: Mapped[UUID | None]
    """Of the run that is under way; its live text is followed under this id."""
    process_id: Mapped[UUID | None]
    """Whose run that is."""
    consecutive_crashes: Mapped[int] = mapped_column("losses", default=0)
    """How many processes died in a row without a step forward."""
    steps: Mapped[int] = mapped_column(default=0)
    """Requests to models."""
    seconds: Mapped[float] = mapped_column(default=0.0)
    """Of work; waiting does not count."""
    input_tokens: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    output_tokens: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    cost: Mapped[Decimal | None] = mapped_column(DOLLARS)
    """In US dollars; None where no price is known. Usage includes that of subagents."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ExecutionEvent(Base):
    """Something that happened in an execution. Together they are the log from which a run goes on."""

    __tablename__ = "execution_events"
    __table_args__ = (sa.UniqueConstraint("execution_id", "sequence"),)

    execution_id: Mapped[UUID] = mapped_column(sa.ForeignKey("executions.id", ondelete="CASCADE"))
    sequence: Mapped[int]
    type: Mapped[str] = mapped_column(sa.String(32))
    data: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    entry: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True), info=SECRET)
    """What it adds to the conversation with the model, in the provider's own form."""


class ApprovalStatus(StrEnum):
    pending = "pending"
    approved = "approved"
    denied = "denied"
    expired = "expired"


class Approval(Base):
    """A call that waits, or waited, for a person. It holds for exactly these arguments."""

    __tablename__ = "approvals"
    __table_args__ = (sa.UniqueConstraint("execution_id", "tool_call_id"), sa.Index(None, "status", "expires_at"))

    execution_id: Mapped[UUID] = mapped_column(sa.ForeignKey("executions.id", ondelete="CASCADE"))
    tool_call_id: Mapped[str] = mapped_column(sa.String(32))
    tool: Mapped[str] = mapped_column(sa.String(64))
    arguments: Mapped[str] = mapped_column(sa.Text)
    status: Mapped[ApprovalStatus]
    expires_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    note: Mapped[str | None] = mapped_column(sa.Text)
