"""What the modules beside this one may say, each of its own feature; write yours there, and updates leave it alone.

`CASES`: of each path with an id, how somebody comes to own what it names, for else another might see it.
`SOCKETS`: of each WebSocket, how somebody comes to its path, and to frames that name what they own.
`SHARED`: paths whose ids belong to nobody, and which everybody who is signed in may ask for.
`WRITES`: what somebody writes at a path without an id, as `("post", "/api/v1/…", body)`.
`SPENDING`: paths whose GET costs something, and which an API key may not ask for with `read` alone.
`PUBLIC`: what may be asked without a token, as `("get", "/api/v1/…")`.
`READS`: how many statements a path may cost whoever reads it, besides the one that tells who asks; else two.
`OF_NOBODY`: tables that hold nothing of a person, and so are in no export.
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
    """How somebody comes to own what a path with an id names."""

    make: Callable[[httpx2.AsyncClient], Awaitable[str]]
    """The path with the id of something that was made for this."""
    bodies: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What each method that takes a body is sent."""
    may_be_missing: bool = False
    """What does it may not be installed: then whoever owns it is told so."""


def said(name: str) -> Iterator[Any]:
    """By every module that says something under this name."""
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
