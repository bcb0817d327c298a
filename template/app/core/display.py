"""Makes texts displayable: a terminal shows every letter of them, and obeys none."""

import re

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,99}[ -/]{0,9}[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\n\x07\x1b\x9c]{0,999}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]{0,9}[0-~]"
)
"""Matches what a terminal obeys: a control sequence, a string such as a window's title, another escape sequence."""
_BEGUN = re.compile(
    r"(?:(?:\x1b\[|\x9b)[0-?]{0,99}[ -/]{0,9}"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\n\x07\x1b\x9c]{0,999}\x1b?"
    r"|\x1b[ -/]{0,9})\Z"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Matches controls but line feed and tab, and what reverses text, with which it could pass for another one."""


def displayable(text: str) -> str:
    """Removes what a terminal would obey, and no letter, joiner or space."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text)).replace("\u2028", "\n").replace("\u2029", "\n")


class DisplayableStream:
    """Makes a text that comes in pieces displayable, which may divide a sequence."""

    def __init__(self) -> None:
        self._begun = ""

    def add(self, piece: str) -> str:
        text = self._begun + piece
        begun = _BEGUN.search(text)
        end = begun.start() if begun else len(text)
        self._begun = text[end:]
        return displayable(text[:end])

    def end(self) -> str:
        """Returns what looked like the beginning of a sequence that never ended."""
        rest, self._begun = self._begun, ""
        return displayable(rest)
