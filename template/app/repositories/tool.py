from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select, update

from app.models.base import now
from app.models.tool import Tool
from app.repositories.base import BaseRepository, insert


class ToolRepository(BaseRepository[Tool]):
    """Reads and writes the tools that the code offers. Those that it no longer offers are invisible here."""

    model = Tool

    async def named(self, ids: Collection[UUID]) -> Sequence[Tool]:
        return (await self._session.scalars(self._rows().where(Tool.id.in_(ids)))).all()

    async def replace(self, tools: Collection[Mapping[str, Any]]) -> None:
        """Makes exactly these tools available, by their names; a tool that was there before keeps its id."""
        names = [tool["name"] for tool in tools]
        gone = update(Tool).where(Tool.name.not_in(names), Tool.available).values(available=False)
        await self._session.execute(gone)
        for tool in sorted(tools, key=lambda tool: tool["name"]):  # in one order, so that processes do not deadlock
            row = insert(self._session, Tool).values(created_at=now(), **tool, available=True)
            values = {name: row.excluded[name] for name in ("description", "input_schema", "policy", "available")}
            await self._session.execute(row.on_conflict_do_update(index_elements=["name"], set_=values))

    def _rows(self) -> Select[Tool]:
        return select(Tool).where(Tool.available)
