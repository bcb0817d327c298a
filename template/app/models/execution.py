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
"""Selects queued and running executions. Queries repeat it literally, else databases do not use the partial index."""
UNFINISHED = sa.text("finished_at IS NULL")
FAILED = sa.text("status = 'failed'")


class ExecutionStatus(StrEnum):
    queued = "queued"
    running = "running"
    waiting = "waiting"
    """Waits for a person's approval or for a subagent."""
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL = (ExecutionStatus.completed, ExecutionStatus.failed, ExecutionStatus.cancelled)


class Execution(Owned):
    """Stores one task given to an agent. A worker writes to it only while it holds its lease, the current `run_id`."""

    __tablename__ = "executions"
    __table_args__ = (
        sa.Index("ix_executions_open", "process_id", "id", sqlite_where=OPEN, postgresql_where=OPEN),
        sa.Index("ix_executions_finished_at", "finished_at"),
        sa.Index("ix_executions_user_id_id", "user_id", "id"),
        sa.Index("ix_executions_unfinished", "user_id", sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
        sa.Index("ix_executions_failed", "id", sqlite_where=FAILED, postgresql_where=FAILED),
    )

    agent_id: Mapped[UUID] = mapped_column(sa.ForeignKey("agents.id", ondelete="CASCADE"), index=True)
    parent_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("executions.id", ondelete="CASCADE"), index=True)
    """Identifies the execution whose agent delegated this one."""
    parent_call_id: Mapped[str | None] = mapped_column(sa.String(32))
    """Identifies the tool call by which it was delegated."""
    message_id: Mapped[UUID | None] = mapped_column(index=True)
    """Identifies the reply that it writes; of a subagent's, the one for which it works. No foreign key."""
    context: Mapped[list[dict[str, Any]] | None] = mapped_column(sa.JSON(none_as_null=True), info=SECRET, deferred=True)
    """Holds the history of the conversation as it was at the beginning; None once the execution has ended."""
    status: Mapped[ExecutionStatus]
    input: Mapped[str] = mapped_column(sa.Text)
    output: Mapped[str | None] = mapped_column(sa.Text)
    code: Mapped[str | None] = mapped_column(sa.String(64))
    """Names the reason why it failed."""
    detail: Mapped[str | None] = mapped_column(sa.String(500))
    configuration: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    """Copies what the agent was when the execution was created."""
    last_sequence: Mapped[int] = mapped_column(default=0)
    """Holds the number of its newest event; its first event has the number 1."""
    run_id: Mapped[UUID | None]
    """Identifies the run that is under way, under whose id its live text is streamed."""
    process_id: Mapped[UUID | None]
    """Identifies the process of that run."""
    attempt: Mapped[int] = mapped_column(default=0, server_default="0")
    """Counts its runs: what another run's model says begins anew."""
    stop_requested: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    """Asks the run to end with the text that it has."""
    consecutive_crashes: Mapped[int] = mapped_column("losses", default=0)
    """Counts the processes that died in a row while they ran it, without completing a step."""
    steps: Mapped[int] = mapped_column(default=0)
    """Counts requests to models."""
    seconds: Mapped[float] = mapped_column(default=0.0)
    """Measures work in seconds, without the time spent waiting."""
    input_tokens: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    output_tokens: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    cost: Mapped[Decimal | None] = mapped_column(DOLLARS)
    """Holds US dollars; None where no price is known. All usage here includes that of subagents."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ExecutionEvent(Base):
    """Records one event of an execution. All of its events together are the log from which a run resumes."""

    __tablename__ = "execution_events"
    __table_args__ = (sa.UniqueConstraint("execution_id", "sequence"),)

    execution_id: Mapped[UUID] = mapped_column(sa.ForeignKey("executions.id", ondelete="CASCADE"))
    sequence: Mapped[int]
    type: Mapped[str] = mapped_column(sa.String(32))
    data: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    entry: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True), info=SECRET)
    """Holds the message or tool result that it adds to the conversation with the model, as the provider needs it."""


class ApprovalStatus(StrEnum):
    pending = "pending"
    approved = "approved"
    denied = "denied"
    expired = "expired"


class ApprovalKind(StrEnum):
    approval = "approval"
    client_tool = "client_tool"
    """Asks the client to run a tool that it has declared: `approved` then says that it gave the result."""


class Approval(Base):
    """Asks a person to approve a tool call, and holds the answer. It covers exactly these arguments.

    A call of a client's own tool is kept here as well, while the client runs it.
    """

    __tablename__ = "approvals"
    __table_args__ = (sa.UniqueConstraint("execution_id", "tool_call_id"), sa.Index(None, "status", "expires_at"))

    execution_id: Mapped[UUID] = mapped_column(sa.ForeignKey("executions.id", ondelete="CASCADE"))
    tool_call_id: Mapped[str] = mapped_column(sa.String(32))
    kind: Mapped[ApprovalKind] = mapped_column(default=ApprovalKind.approval, server_default="approval")
    tool: Mapped[str] = mapped_column(sa.String(64))
    arguments: Mapped[str] = mapped_column(sa.Text)
    status: Mapped[ApprovalStatus]
    expires_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    note: Mapped[str | None] = mapped_column(sa.Text)
