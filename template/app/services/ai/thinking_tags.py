"""Separates thoughts from the answer where a model's server leaves both in one text, as `<think>…</think>`."""

import re
from collections.abc import Iterator
from unicodedata import category

_CLOSING = {
    **{f"<{name}>": f"</{name}>" for name in ("think", "thinking", "thought", "reasoning", "seed:think")},
    **{"[think]": "[/think]", "◁think▷": "◁/think▷"},
}
_OPENING_TAG = re.compile("|".join(map(re.escape, _CLOSING)), re.IGNORECASE)
_FENCE = re.compile(r"(?m)^[ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+)?(`{3,}|~{3,})")
_CODE_OR_LIST = re.compile(r" {4}|\t|[ \t]*(?:[-*+]|\d+[.)])[ \t]")
_BLANK = " \t\r\n\ufeff\u200b"
_FULL_STOPS = ".!?…\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH EXCLAMATION MARK}\N{FULLWIDTH QUESTION MARK}"
_GOES_ON = " ,.;:)]`/"
"""Lists what follows a tag that is a word of a sentence."""
WITHHELD = "\ue000"
"""Stands for each piece of a doubtful thought, which is a sign of life and no text, until the thought ends."""


class ThinkingTags:
    """Reads one answer, in pieces of any size. A tag that is quoted in a sentence or in code stays text."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._unread = ""
        self._closing_tag = ""
        self._doubtful: list[str] = []
        self._has_thought = False

    def read(self, piece: str) -> Iterator[tuple[str, bool]]:
        """Yields each piece with whether it is a thought. What may be the beginning of a tag waits for the next."""
        self._unread += piece
        yield from self._read(is_end=False)

    def end(self) -> Iterator[tuple[str, bool]]:
        """Yields what waited, since nothing follows. A doubtful thought that never ended was none."""
        yield from self._read(is_end=True)
        self._closing_tag, doubtful = "", "".join(self._doubtful)
        yield from self._mark(doubtful)

    def _read(self, *, is_end: bool) -> Iterator[tuple[str, bool]]:
        while (tag := self._find_tag()) and (is_end or self._closing_tag or tag.end() < len(self._unread)):
            before, self._unread = self._unread[: tag.start()], self._unread[tag.end() :]
            if self._closing_tag:
                yield from self._mark(before)
                if thought := "".join(self._doubtful[1:]):
                    yield thought, True
                self._closing_tag, self._doubtful = "", []
            elif _opens_thought("".join(self._text) + before, self._unread[:1]):
                is_doubtful = self._unread[:1] in _GOES_ON
                self._doubtful = [before + tag[0]] if is_doubtful else []
                self._has_thought = True  # so that blanks before the first thought are left out
                yield from self._mark(before)
                self._closing_tag = _CLOSING[tag[0].lower()]
            else:
                # In two pieces: pydantic-ai takes a piece that is a tag and nothing else for the start of a thought.
                yield from self._mark(before + tag[0][:-1])
                yield from self._mark(tag[0][-1])
        certain = len(self._unread) - (0 if is_end else self._count_waiting())
        before, self._unread = self._unread[:certain], self._unread[certain:]
        yield from self._mark(before)

    def _find_tag(self) -> re.Match[str] | None:
        wanted = re.compile(re.escape(self._closing_tag), re.IGNORECASE) if self._closing_tag else _OPENING_TAG
        return wanted.search(self._unread)

    def _count_waiting(self) -> int:
        """Returns how many characters at the end may begin a tag, with the blanks before the first one."""
        end = self._unread[max(0, *map(self._unread.rfind, ("<", "[", "◁"))) :].lower()
        tags = [self._closing_tag] if self._closing_tag else _CLOSING
        waiting = len(end) if any(tag.startswith(end) for tag in tags) else 0
        is_start = not (self._text or self._closing_tag)
        return len(self._unread) if is_start and not self._unread[: -waiting or None].strip(_BLANK) else waiting

    def _mark(self, piece: str) -> Iterator[tuple[str, bool]]:
        if self._closing_tag:
            if self._doubtful:
                self._doubtful.append(piece)
                piece = piece and WITHHELD
            if piece:
                yield piece, True
            return
        if self._has_thought and not self._text:
            piece = piece.lstrip(_BLANK)  # the lines between the thought and the answer
        if piece:
            self._text.append(piece)
            yield piece, False


def _opens_thought(before: str, after: str) -> bool:
    """Tells whether a tag between this text and this character begins a thought, and is no quotation.

    It does at the start of the answer, and outside code at the start of a line, after a sentence and glued to a word.
    """
    if not before.strip(_BLANK):
        return True
    line = before.rpartition("\n")[2]
    if _is_in_fence(before) or line.count("`") % 2 or after in _GOES_ON:
        return False
    if not line.strip(_BLANK) or _CODE_OR_LIST.fullmatch(line):
        return not (_CODE_OR_LIST.match(line) or before.endswith(":\n"))
    last = line.rstrip(" ")[-1]
    return last in _FULL_STOPS or (line[-1] == last and _ends_word(last))


def _is_in_fence(before: str) -> bool:
    opened = ""
    for fence in _FENCE.findall(before):
        if not opened:
            opened = fence
        elif fence.startswith(opened):
            opened = ""
    return bool(opened)


def _ends_word(last: str) -> bool:
    """Tells this of letters with a case: scripts without it write no spaces around a tag in a sentence."""
    return last.islower() or last.isupper() or last.isdigit() or last in "*_;," or category(last) in {"Pe", "So"}
