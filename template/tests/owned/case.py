"""Describes the constants that each module beside this one may define; write your own module, updates leave it alone.

`CASES`: for each path with an id, how a user creates what the id names; tests check that others get 404 for it.
`SOCKETS`: for each WebSocket, a function that returns its path and frames that name what the user owns.
`SHARED`: paths whose ids belong to no user, and which every signed-in user may request.
`WRITES`: requests without an id in their path that write something, as `("post", "/api/v1/…", body)`.
`SPENDING`: paths whose GET costs something, and which an API key with the scope `read` alone may not request.
`PUBLIC`: what may be requested without a token, as `("get", "/api/v1/…")`.
`READS`: how many statements a GET may cost for any caller, besides the one that authenticates; otherwise two.
`OF_NOBODY`: tables that hold no personal data, and so are in no export.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import httpx2


@dataclass(frozen=True)
class Case:
    """Describes how a user comes to own what a path with an id names."""

    make: Callable[[httpx2.AsyncClient], Awaitable[str]]
    """Creates something for the user of the client, and returns the path with its id."""
    bodies: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Maps each method that takes a body to the body that tests send."""
    may_be_missing: bool = False
    """Allows 503 for the owner, since the optional package that does the work may not be installed."""
    is_silent: bool = False
    """Wants 204 in place of 404 for another's id, as for one of nobody: a client asks before there is anything."""


def said(name: str) -> Iterator[Any]:
    """Yields the value of this name from every module that defines it."""
    for found in iter_modules([str(Path(__file__).parent)]):
        module = import_module(f"tests.owned.{found.name}")
        if hasattr(module, name):
            yield getattr(module, name)


MakeFrames = Callable[[httpx2.AsyncClient], Awaitable[tuple[str, Sequence[Mapping[str, Any]]]]]


def cases() -> dict[str, Case]:
    return {path: case for found in said("CASES") for path, case in found.items()}


def socket_cases() -> dict[str, MakeFrames]:
    return {path: make for found in said("SOCKETS") for path, make in found.items()}


def names(name: str) -> set[Any]:
    return {item for found in said(name) for item in found}
