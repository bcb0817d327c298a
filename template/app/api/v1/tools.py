from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.deps import CurrentUser, Cursor, DatabaseDep, Limit
from app.models.tool import Tool
from app.repositories.base import Page
from app.schemas.base import PageRead
from app.schemas.tool import ToolRead
from app.services.agents.tool_catalog import ToolService

router = APIRouter(prefix="/tools", tags=["agents"])


async def tool_service(database: DatabaseDep, _: CurrentUser) -> ToolService:
    return ToolService(database)


@router.get("", response_model=PageRead[ToolRead])
async def list_tools(
    tools: Annotated[ToolService, Depends(tool_service)], limit: Limit = 50, cursor: Cursor = None
) -> Page[Tool]:
    """Lists the tools that agents may be given."""
    return await tools.list(limit, cursor)
