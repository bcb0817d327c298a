"""Provides helpers with which tests call tools."""

import json
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import pytest
from pydantic import SecretStr

from app.core.config import Settings
from app.core.database import Database
from app.services.agents.toolbox import Tool, ToolContext, ToolError
from app.services.processes.process_pool import ProcessPool
from tests.conftest import SECRET_KEY

NO_DATABASE = Database(Settings(secret_key=SecretStr(SECRET_KEY)))
"""Stands in for a database where a test needs none: it never connects."""
WORKERS = ProcessPool(2)


def context(database: Database = NO_DATABASE, user_id: UUID | None = None, *, key: str = "key") -> ToolContext:
    row_id = uuid5(NAMESPACE_OID, key)
    return ToolContext(user_id or uuid4(), UUID(int=1), key, database, WORKERS, row_id)


async def call(tool: Tool, to: ToolContext | None = None, /, **arguments: Any) -> str:
    return await tool.call(to or context(), json.dumps(arguments))


async def refused(tool: Tool, to: ToolContext | None = None, /, **arguments: Any) -> str:
    """Calls a tool that refuses, and returns the sentence of its ToolError."""
    with pytest.raises(ToolError) as caught:
        await call(tool, to, **arguments)
    return str(caught.value)
