"""Converts events of executions to rows, and to the JSON that clients receive."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from app.models.execution import Execution, ExecutionEvent
from app.repositories.execution import NewEvent
from app.schemas.execution import ExecutionUsage
from app.schemas.execution_event import EventBase, StoredEvent

OF_EVERY = set(EventBase.model_fields)


def to_new_event(event: StoredEvent, entry: dict[str, Any] | None = None) -> NewEvent:
    return NewEvent(event.type, event.model_dump(mode="json", exclude={*OF_EVERY, "type"}), entry)


def event_data(execution_id: UUID, sequence: int, event: ExecutionEvent | NewEvent) -> Mapping[str, Any]:
    """Returns what clients receive of an event, without validation: it was valid when it was stored."""
    known = {
        "type": event.type,
        "sequence": sequence,
        "at": event.created_at.isoformat(),
        "execution_id": str(execution_id),
    }
    return known | event.data


def delta_of(
    execution_id: UUID, sequence: int, text: str | None = None, reasoning: str | None = None
) -> tuple[str, Mapping[str, Any]]:
    """Returns the type of a live event, and what clients receive of it."""
    type = "reasoning.delta" if text is None else "model.delta"
    of = {"type": type, "sequence": sequence, "at": None, "execution_id": str(execution_id)}
    return type, of | {"text": reasoning if text is None else text}


def to_usage(execution: Execution) -> ExecutionUsage:
    return ExecutionUsage(
        steps=execution.steps,
        input_tokens=execution.input_tokens,
        output_tokens=execution.output_tokens,
        cost=execution.cost,
    )
