"""An execution as a conversation with a model, and what comes next in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from app.services.agent_ai import Answered, Asked, Entry, Returned, ToolCall


@dataclass(frozen=True, slots=True)
class Pending:
    """A call that has not been answered. Its own id is unique within the execution; providers' ids need not be."""

    id: str
    call: ToolCall


class Transcript:
    def __init__(self, input: str, entries: Iterable[Mapping[str, Any]] = ()) -> None:
        self.entries: list[Entry] = [Asked(input)]
        self._calls = 0
        self._pending: list[Pending] = []
        for entry in entries:
            self.add(_loaded(entry))

    @property
    def pending(self) -> Pending | None:
        """Calls are answered one after the other, in the order in which the model made them."""
        return self._pending[0] if self._pending else None

    @property
    def answer(self) -> Answered | None:
        """The last word, once the model asks for nothing more."""
        last = self.entries[-1]
        return last if isinstance(last, Answered) and not last.calls else None

    def add(self, entry: Answered | Returned) -> Sequence[Pending]:
        """The calls that are to be answered now."""
        if isinstance(entry, Answered):
            numbered = enumerate(entry.calls, start=self._calls + 1)
            self._pending = [Pending(f"call_{number}", call) for number, call in numbered]
            self._calls += len(entry.calls)
            self.entries.append(entry)
        else:
            answered = self._pending.pop(0)
            self.entries.append(replace(entry, call_id=answered.call.id))
        return list(self._pending)


def stored(entry: Answered | Returned) -> dict[str, Any]:
    return asdict(entry)


def _loaded(entry: Mapping[str, Any]) -> Answered | Returned:
    if "calls" not in entry:
        return Returned(**entry)
    calls = [ToolCall(**call) for call in entry["calls"]]
    return Answered(entry["text"], calls, entry["raw"], entry["code"])
