"""Which Python an environment runs, compared with the one that the project is made for."""

import re
import sys
from pathlib import Path

_ANSWER = re.compile(r"(?m)^python_version: *['\"]?(\d+\.\d+)['\"]? *$")
"""As Copier writes it. PyYAML, which would read more, is installed for developers only."""


def describe_python(root: Path) -> str | None:
    """Say in a sentence that this environment runs another Python than the project is made for.

    Gives None where it is the same one, to the minor version, and where nothing says what the project is made for.
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
        f"`uv sync --python {made_for}` makes the environment anew, with the extras that you name beside it"
    )
