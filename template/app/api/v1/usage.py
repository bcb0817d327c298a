from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from app.api.deps import CurrentUser, DatabaseDep
from app.schemas.usage import UsageReport
from app.services.usage.report import UsageService

router = APIRouter(prefix="/usage", tags=["usage"])

Days = Annotated[int, Query(ge=1, le=366, description="How many days back, today included")]


async def usage_service(request: Request, database: DatabaseDep, user: CurrentUser) -> UsageService:
    return UsageService(database, request.app.state.budgets, user.id)


@router.get("")
async def read_usage(usage: Annotated[UsageService, Depends(usage_service)], days: Days = 30) -> UsageReport:
    """Returns the caller's usage by day (UTC) and model, and what is left of each budget."""
    return await usage.read(days)
