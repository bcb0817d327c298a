from collections.abc import Callable

CLOSE_SECONDS = 2.0
"""Limits the time to send what is left when the process ends."""


End = Callable[[], object]
