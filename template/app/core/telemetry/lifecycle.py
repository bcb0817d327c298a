from collections.abc import Callable

CLOSE_SECONDS = 2.0
"""For what is not sent yet when the process ends."""


End = Callable[[], object]
