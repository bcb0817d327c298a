"""Tells apart the tool calls of one answer, whose pieces servers label in different ways."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sent_name: int = 0
    sent_arguments: int = 0

    @property
    def is_whole(self) -> bool:
        """Tells whether no arguments can follow. An empty object is not whole: the real one may come after it."""
        if not self.arguments.endswith("}") or self.arguments == "{}":
            return False
        try:
            return isinstance(json.loads(self.arguments), dict)
        except (ValueError, RecursionError):
            return False


@dataclass(frozen=True, slots=True)
class _Piece:
    label: object
    id: str
    name: str
    arguments: str
    extra: Mapping[str, Any]


class ToolCallReader:
    """Gives each call an index and an id of its own, whether its server left them out, shared or repeated them."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def read(self, items: Any) -> Iterator[Mapping[str, Any]]:
        """Yields OpenAI's form of each piece."""
        begun = len(self._calls)
        for item in filter(None, map(to_object, to_array(items) or [items])):
            yield from _news(self._add(_to_piece(item), begun))

    def end(self) -> Iterator[Mapping[str, Any]]:
        for call in self._calls:
            yield from _news(call, is_end=True)

    def _add(self, piece: _Piece, begun: int) -> _Call:
        call = self._find_named(piece, begun) if piece.id or piece.name else self._find_open(piece)
        if call is None:
            call = self._begin(piece)
        elif call.is_whole and call.name:
            return call  # the server repeats the call
        if not call.name or (piece.name != call.name and not call.arguments):
            call.name += piece.name
        is_cumulative = call.arguments and piece.arguments.startswith(call.arguments)
        is_restarted = call.arguments == "{}" and piece.arguments
        call.arguments = piece.arguments if is_cumulative or is_restarted else call.arguments + piece.arguments
        call.extra = {**call.extra, **piece.extra}
        return call

    def _begin(self, piece: _Piece) -> _Call:
        """Adds a call. Where heads with one index come before all arguments, these count their calls by position."""
        position = len(self._calls)
        is_shared = any(call.label == piece.label and not call.arguments for call in self._calls)
        is_free = piece.id and all(call.id != piece.id for call in self._calls)
        id = piece.id if is_free else f"call_{uuid4().hex}"
        call = _Call(position if is_shared else piece.label, piece.id, id, position)
        self._calls.append(call)
        return call

    def _find_named(self, piece: _Piece, begun: int) -> _Call | None:
        """Returns the call with which a piece that has an id or a name goes on; none if it begins one.

        The calls from `begun` on are of the same list, in which no server repeats a call.
        """
        newest_first = self._calls[::-1]
        with_id = next((call for call in newest_first if piece.id and call.given_id == piece.id), None)
        if with_id:
            is_other = piece.name and None not in (piece.label, with_id.label) and piece.label != with_id.label
            return None if is_other or (with_id.is_whole and _differs(with_id, piece)) else with_id
        labelled = [call for call in newest_first if piece.label is None or call.label == piece.label]
        newest = labelled[0] if labelled else None
        if newest is None or (piece.id and newest.given_id and (piece.name or newest.is_whole) and newest.name):
            return None
        if not piece.name or not newest.name:
            return newest
        is_other = piece.name != newest.name and (piece.label is None or bool(newest.arguments))
        is_repeated = not piece.arguments or not _differs(newest, piece)
        return None if is_other or newest.index >= begun or (newest.is_whole and not is_repeated) else newest

    def _find_open(self, piece: _Piece) -> _Call | None:
        """Returns the call to which bare arguments belong: the newest of their index, or the next that has none."""
        if not self._calls:
            return None
        labelled = [call for call in self._calls if call.label == piece.label] or self._calls[-1:]
        newest = labelled[-1]
        if piece.arguments.startswith("{") and newest.is_whole:
            return next((call for call in self._calls if not call.arguments), newest)
        return newest


def _differs(call: _Call, piece: _Piece) -> bool:
    return (piece.name or call.name) != call.name or piece.arguments not in ("", call.arguments)


def _to_piece(item: Mapping[str, Any]) -> _Piece:
    function = to_object(item.get("function"))
    extra = {name: value for name, value in item.items() if name not in ("index", "id", "function")}
    name, arguments = to_text(function.get("name")), _to_json(function.get("arguments"))
    return _Piece(item.get("index"), to_text(item.get("id")), name, arguments, extra)


def _news(call: _Call, *, is_end: bool = False) -> Iterator[Mapping[str, Any]]:
    """Yields what was not sent of the call. An empty object waits: some servers send one ahead of the real one."""
    name, arguments = call.name[call.sent_name :], call.arguments[call.sent_arguments :]
    if call.arguments == "{}" and not is_end:
        arguments = ""
    if name or arguments or call.extra:
        first = {} if call.sent_name or call.sent_arguments else {"id": call.id}
        yield {**call.extra, "index": call.index, "function": {"name": name or None, "arguments": arguments}, **first}
        call.sent_name += len(name)
        call.sent_arguments += len(arguments)
        call.extra = {}


def _to_json(arguments: Any) -> str:
    """Returns arguments as text, also those that a server sends as an object."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments)
