"""Reports the end of a subagent's execution to the execution that delegated it."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.models.execution import Execution, ExecutionStatus
from app.repositories.execution import append, resume
from app.schemas.execution_event import SubagentCompleted
from app.services.agents.events import to_new_event
from app.services.agents.transcript import to_entry
from app.services.ai import ToolResult


async def report_end(session: AsyncSession, child: Execution, end: Mapping[str, Any], parent: Execution) -> None:
    """Adds a child's usage and `end` (`status`, and `output` or `detail`) to its locked parent, and queues that."""
    _add_usage(parent, child)
    if parent.status is not ExecutionStatus.waiting or child.parent_call_id is None:
        return
    content = _content(end)
    completed = SubagentCompleted(
        tool_call_id=child.parent_call_id,
        name=str(child.configuration["name"]),
        execution=child.id,
        status=end["status"],
        content=content,
    )
    append(session, parent, to_new_event(completed, to_entry(ToolResult("", completed.name, content))))
    await resume(session, parent)


def _content(end: Mapping[str, Any]) -> str:
    match end["status"]:
        case ExecutionStatus.completed:
            return end["output"]
        case ExecutionStatus.cancelled:
            return "The subagent was cancelled."
        case _:
            return f"The subagent failed: {end['detail']}"


def _add_usage(parent: Execution, child: Execution) -> None:
    """Adds the usage of a subagent to that of its parent."""
    parent.steps += child.steps
    parent.seconds += child.seconds
    parent.input_tokens += child.input_tokens
    parent.output_tokens += child.output_tokens
    parent.cost = add_costs(parent.cost, child.cost)


def add_costs(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    """Returns the sum of the known costs; None if neither is known."""
    return one if other is None else other + (one or 0)
