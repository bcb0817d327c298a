"""Shows superusers the executions of everyone."""

from fastapi import APIRouter, Depends

from app.api.deps import Cursor, DatabaseDep, Limit
from app.api.v1.admin import UserId, note_access
from app.api.v1.executions import Status
from app.schemas.execution import ExecutionOverview
from app.services.agents.overview import read_executions

router = APIRouter(prefix="/admin/executions", tags=["admin"], dependencies=[Depends(note_access)])


@router.get("")
async def list_executions(
    database: DatabaseDep, status: Status = None, user_id: UserId = None, limit: Limit = 50, cursor: Cursor = None
) -> ExecutionOverview:
    """Lists executions of everyone, newest first, without what was written, for superusers."""
    return await read_executions(database, limit, cursor, status, user_id)
