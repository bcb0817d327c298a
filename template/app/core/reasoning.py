"""Names how much a model reasons, for requests and for the gateway to models alike."""

from typing import Literal

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""Says how much a model reasons before it answers. One that knows fewer levels takes the nearest, also for "none"."""
