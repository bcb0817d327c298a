"""Tells apart the tool calls of one answer, whose pieces servers label in different ways."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from app.services.ai.json_values import to_array, to_object, to_text


@dataclass(slots=True)
class _Call:
    """Holds what has come of a call. `label` is the index that its server gave, which several calls may share."""

    label: object
    given_id: str
    id: str
    index: int
    name: str = ""
    arguments: str = ""
    sent_name: int = 0
    sent_arguments: int = 0

    @property
    def is_whole(self) -> bool:
        try:
            return isinstance(json.loads(self.arguments), dict)
        except (ValueError, RecursionError):
            return False


class ToolCallReader:
    """Gives each call an index and an id of its own, whether its server left them out, shared or repeated them."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def read(self, items: Any) -> Iterator[Mapping[str, Any]]:
        """Yields OpenAI's form of each piece."""
        for item in filter(None, map(to_object, to_array(items))):
            yield from _news(self._add(item))

    def end(self) -> Iterator[Mapping[str, Any]]:
        for call in self._calls:
            yield from _news(call, is_end=True)

    def _add(self, item: Mapping[str, Any]) -> _Call:
        function = to_object(item.get("function"))
        label, id = item.get("index"), to_text(item.get("id"))
        name, arguments = to_text(function.get("name")), _to_json(function.get("arguments"))
        call = self._find(label, id, name, arguments)
        if call is None:
            call = self._begin(label, id)
        elif (id or name) and call.arguments != "{}" and call.is_whole:
            return call  # the server repeats the call
        if name != call.name and not call.arguments:
            call.name += name
        call.arguments = arguments if call.arguments == "{}" and arguments else call.arguments + arguments
        return call

    def _begin(self, label: object, id: str) -> _Call:
        is_free = id and all(call.id != id for call in self._calls)
        call = _Call(label, id, id if is_free else f"call_{uuid4().hex}", len(self._calls))
        self._calls.append(call)
        return call

    def _find(self, label: object, id: str, name: str, arguments: str) -> _Call | None:
        """Returns the call to which a piece belongs; none if it begins one."""
        newest_first = self._calls[::-1]
        with_id = next((call for call in newest_first if id and call.given_id == id), None)
        if with_id:
            is_other = name and None not in (label, with_id.label) and label != with_id.label
            return None if is_other else with_id
        labelled = [call for call in newest_first if label is None or call.label == label]
        newest = labelled[0] if labelled else None
        if newest is None:
            return None if id or name or not newest_first else newest_first[0]
        if not name:
            return None if id and label is None else newest
        if id and newest.given_id:
            return None if newest.is_whole or newest.name != name else newest
        is_repeated = newest.name == name and arguments in ("", newest.arguments)
        return None if newest.is_whole and not is_repeated else newest


def _news(call: _Call, *, is_end: bool = False) -> Iterator[Mapping[str, Any]]:
    """Yields what was not sent of the call. An empty object waits: some servers send one ahead of the real one."""
    name, arguments = call.name[call.sent_name :], call.arguments[call.sent_arguments :]
    if call.arguments == "{}" and not is_end:
        arguments = ""
    if name or arguments:
        first = {} if call.sent_name or call.sent_arguments else {"id": call.id}
        call.sent_name += len(name)
        call.sent_arguments += len(arguments)
        yield {"index": call.index, "function": {"name": name or None, "arguments": arguments}, **first}


def _to_json(arguments: Any) -> str:
    """Returns arguments as text, also those that a server sends as an object."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments)
