from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2


@dataclass(frozen=True)
class Case:
    """How somebody comes to own what a path with an id names."""

    make: Callable[[httpx2.AsyncClient], Awaitable[str]]
    """The path with the id of something that was made for this."""
    bodies: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What each method that takes a body is sent."""
