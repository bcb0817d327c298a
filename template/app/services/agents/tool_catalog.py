from uuid import UUID

from app.core.database import Database
from app.models.tool import Tool
from app.repositories.base import Page
from app.repositories.tool import ToolRepository
from app.services.agents.toolbox import Toolbox


class ToolService:
    """Lists the tools that everyone may give to agents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, limit: int, cursor: UUID | None) -> Page[Tool]:
        async with self._database.read() as session:
            return await ToolRepository(session).list(limit, cursor)


async def publish(database: Database, toolbox: Toolbox) -> None:
    """Stores the tools of the code as rows, so that their ids agree in all processes."""
    rows = [
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": dict(tool.input_schema),
            "policy": tool.policy,
        }
        for tool in toolbox.tools.values()
    ]
    async with database.write() as session:
        await ToolRepository(session).replace(rows)
