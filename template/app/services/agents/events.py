"""Converts events of executions to rows, and to the JSON that clients receive."""

import json
from typing import Any
from uuid import UUID

from app.models.execution import Execution, ExecutionEvent
from app.repositories.execution import NewEvent
from app.schemas.execution import ExecutionUsage
from app.schemas.execution_event import EventBase, ModelDelta, StoredEvent

OF_EVERY = set(EventBase.model_fields)


def to_new_event(event: StoredEvent, entry: dict[str, Any] | None = None) -> NewEvent:
    return NewEvent(event.type, event.model_dump(mode="json", exclude={*OF_EVERY, "type"}), entry)


def serialize_event(event: ExecutionEvent) -> str:
    """Returns the event as JSON, without validation: it was valid when it was stored."""
    known = {
        "type": event.type,
        "sequence": event.sequence,
        "at": event.created_at.isoformat(),
        "execution_id": str(event.execution_id),
    }
    return json.dumps(known | event.data, ensure_ascii=False)


def serialize_delta(execution_id: UUID, sequence: int, text: str) -> str:
    return ModelDelta(sequence=sequence, execution_id=execution_id, text=text).model_dump_json()


def to_usage(execution: Execution) -> ExecutionUsage:
    return ExecutionUsage(
        steps=execution.steps,
        input_tokens=execution.input_tokens,
        output_tokens=execution.output_tokens,
        cost=execution.cost,
    )
