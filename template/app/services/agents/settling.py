"""Stores how the reply ended that an execution writes, in the transaction in which the execution ends."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.models.execution import Execution, ExecutionStatus
from app.models.message import MessageStatus
from app.repositories.execution_queue import RunRepository
from app.repositories.reply import ReplyRepository
from app.services.agents.configuration import client_tool_names
from app.services.agents.history import complete, keep
from app.services.agents.reply_parts import NOT_ENDED, ReplyParts
from app.services.agents.transcript import Transcript

_STATUSES = {
    ExecutionStatus.completed: MessageStatus.completed,
    ExecutionStatus.failed: MessageStatus.failed,
    ExecutionStatus.cancelled: MessageStatus.stopped,
}


def describe_reply(
    execution: Execution, end: Mapping[str, Any], parts: ReplyParts, transcript: Transcript, max_tokens: int
) -> Mapping[str, Any]:
    """Returns the columns of the reply. `end` has the execution's `status`, and of a failed one `code` and `detail`."""
    parts.close()
    was_asked = parts.model is not None
    return {
        "status": _STATUSES[end["status"]],
        "content": parts.content,
        "stored_parts": parts.parts,
        **keep(complete(transcript, NOT_ENDED), max_tokens),
        "code": end.get("code") or parts.code,
        "detail": end.get("detail"),
        "model": parts.model,
        "input_tokens": execution.input_tokens if was_asked else None,
        "output_tokens": execution.output_tokens if was_asked else None,
        "cost": execution.cost if was_asked else None,
    }


async def settle(session: AsyncSession, execution: Execution, end: Mapping[str, Any], max_tokens: int) -> None:
    """Stores the end of the reply of an execution that no run holds, from its stored events. Raises nothing twice."""
    if execution.message_id is None or execution.parent_id is not None:
        return
    history = await RunRepository(session).history(execution)
    parts = ReplyParts(execution.message_id, history.happened)
    transcript = Transcript(execution.input, history.entries, client_tools=client_tool_names(execution))
    values = describe_reply(execution, end, parts, transcript, max_tokens)
    await ReplyRepository(session).settle(execution.message_id, values)
