from uuid import UUID

from sqlalchemy import RowMapping

from app.core.database import Database
from app.models.execution import ExecutionStatus
from app.repositories.execution_overview import ExecutionOverviewRepository
from app.schemas.execution import ExecutionError, ExecutionOverview, ExecutionSummary


async def read_executions(
    database: Database, limit: int, cursor: UUID | None, status: ExecutionStatus | None, user_id: UUID | None
) -> ExecutionOverview:
    """Shows the executions of everyone, or of one user, newest first."""
    async with database.read() as session:
        executions = ExecutionOverviewRepository(session)
        found = await executions.list(limit + 1, cursor, status, user_id)
        counts = await executions.count()
    items = list(map(_to_summary, found[:limit]))
    return ExecutionOverview(items=items, next_cursor=items[-1].id if len(found) > limit else None, counts=counts)


def _to_summary(row: RowMapping) -> ExecutionSummary:
    error = None if row["code"] is None else ExecutionError(code=row["code"], detail=row["detail"] or "")
    return ExecutionSummary.model_validate({**row, "error": error, "usage": dict(row)})
