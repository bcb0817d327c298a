"""Names how a model picks its words and calls tools, for requests and for the gateway to models alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Sampling:
    """Chooses how a model picks its words. What a model does not take, it is asked without."""

    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: Sequence[str] = ()
    """Lists texts at which the answer ends, without them."""


ToolChoice = Literal["auto", "required", "none"] | str
"""Tells which tool a model must call: it decides, any, none, or the one with this name."""
