"""Compares the Python of an environment with the one that the project is made for."""

import re
import sys
from pathlib import Path

_ANSWER = re.compile(r"(?m)^python_version: *['\"]?(\d+\.\d+)['\"]? *$")
"""Matches the line that Copier writes. PyYAML, which would read more, is installed for developers only."""


def describe_python(root: Path) -> str | None:
    """Returns a sentence when this environment runs another Python than the project is made for.

    Returns None when the minor versions are the same, and when nothing says what the project is made for.
    """
    try:
        answered = _ANSWER.search((root / ".copier-answers.yml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if answered is None or answered[1] == here:
        return None
    made_for = answered[1]
    return (
        f"This environment runs Python {here}, and the project is made for {made_for}: "
        f"`uv sync --python {made_for}` recreates the environment; name the extras that you use, too"
    )
