"""Shows superusers what everyone uses, and what the processes of the application do."""

from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query, Request

from app.api.deps import DatabaseDep, Limit, Superuser
from app.schemas.process import ProcessOverview
from app.schemas.usage import UsageGroup, UsageOverview
from app.services.processes.overview import read_processes
from app.services.usage.totals import sum_usage

log = structlog.stdlib.get_logger("app.security")

UserId = Annotated[UUID | None, Query(description="Only what belongs to this user")]


async def note_access(request: Request, user: Superuser) -> None:
    """Logs who looks at what belongs to everyone."""
    log.info("administration read", by=str(user.id), path=request.url.path)


router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(note_access)])


@router.get("/usage")
async def read_usage(
    database: DatabaseDep,
    *,
    by: Annotated[UsageGroup, Query(description="What the sums are for")] = "day",
    days: Annotated[int, Query(ge=1, le=366, description="How many days back, today included")] = 30,
    user_id: UserId = None,
    limit: Limit = 50,
    cursor: Annotated[int, Query(ge=0, le=2**31 - 1, description="`next_cursor` of the previous page")] = 0,
) -> UsageOverview:
    """Sums the usage of everyone by day (UTC), feature, model or user, for superusers."""
    return await sum_usage(database, by, days, user_id, limit=limit, cursor=cursor)


@router.get("/processes")
async def list_processes(database: DatabaseDep) -> ProcessOverview:
    """Lists the processes, and counts the background jobs, for superusers."""
    return await read_processes(database)
