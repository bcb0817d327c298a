"""Ends calls of tools that a client runs itself: by the results that it gives, or because it gave none in time."""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import Conflict, Invalid, NotFound
from app.models.base import now
from app.models.execution import Approval, ApprovalKind, ApprovalStatus, Execution
from app.repositories.execution import ExecutionRepository, append, resume
from app.schemas.client_tool import ToolResultCreate, ToolResultsCreate
from app.schemas.execution_event import ToolFailed, ToolReturned
from app.services.agents.events import to_new_event
from app.services.agents.transcript import to_entry
from app.services.ai import ToolResult


class CallClosed(Conflict):
    code = "call_closed"


class ClientCalls:
    """Ends the calls of one execution, in the transaction of the session, which has locked it."""

    def __init__(self, session: AsyncSession, executions: ExecutionRepository, execution: Execution) -> None:
        self._session = session
        self._executions = executions
        self._execution = execution

    async def give_results(self, data: ToolResultsCreate, shorten: Callable[[str], str]) -> None:
        """Adds the results of all calls that wait, and queues the execution. Raises Invalid, NotFound, CallClosed."""
        calls = await self._list()
        given = {result.tool_call_id: result for result in data.results}
        for id in given:
            if id not in calls:
                raise NotFound("Tool call", id)
            if calls[id].status is not ApprovalStatus.pending or calls[id].expires_at <= now():
                raise CallClosed(f"{id} waits for no result: it has one, it expired, or the reply has ended.")
        waiting = _waiting(calls)
        if missing := next((call.tool_call_id for call in waiting if call.tool_call_id not in given), None):
            raise Invalid(f"{missing} waits as well: give the results of all calls together.")
        for call in waiting:
            result = given[call.tool_call_id]
            self._end(call, ApprovalStatus.approved, _event(call, result, shorten(result.content)))
        await resume(self._session, self._execution)

    async def expire(self) -> None:
        """Tells the model that the calls that wait have no result, and queues the execution."""
        for call in _waiting(await self._list()):
            self._end(call, ApprovalStatus.expired, _failed(call, "The client gave no result in time."))
        await resume(self._session, self._execution)

    async def _list(self) -> Mapping[str, Approval]:
        calls = await self._executions.approvals(self._execution)
        return {call.tool_call_id: call for call in calls if call.kind is ApprovalKind.client_tool}

    def _end(self, call: Approval, status: ApprovalStatus, event: ToolReturned | ToolFailed) -> None:
        call.status, call.answered_at = status, now()
        content = event.content if isinstance(event, ToolReturned) else event.detail
        entry = to_entry(ToolResult(call.tool_call_id, call.tool, content))
        append(self._session, self._execution, to_new_event(event, entry))


def _waiting(calls: Mapping[str, Approval]) -> Sequence[Approval]:
    return [call for call in calls.values() if call.status is ApprovalStatus.pending]


def _event(call: Approval, result: ToolResultCreate, content: str) -> ToolReturned | ToolFailed:
    if result.is_error:
        return _failed(call, content)
    return ToolReturned(tool_call_id=call.tool_call_id, name=call.tool, content=content)


def _failed(call: Approval, detail: str) -> ToolFailed:
    return ToolFailed(tool_call_id=call.tool_call_id, name=call.tool, detail=detail)
