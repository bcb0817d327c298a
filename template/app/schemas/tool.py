from typing import Any
from uuid import UUID

from app.models.tool import Policy
from app.schemas.base import Read


class ToolRead(Read):
    id: UUID
    name: str
    description: str
    input_schema: dict[str, Any]
    policy: Policy
