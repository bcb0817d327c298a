"""Separates thoughts from the answer where a model's server leaves both in one text, as `<think>…</think>`."""

import re
from collections.abc import Iterator

_CLOSING = {f"<{name}>": f"</{name}>" for name in ("think", "thinking", "thought")} | {"[THINK]": "[/THINK]"}
_OPENING_TAG = re.compile("|".join(map(re.escape, _CLOSING)))
_FENCE = re.compile(r"(?m)^ {0,3}(?:```|~~~)")
_COLONS = (":", "\N{FULLWIDTH COLON}")
_FULL_STOPS = ".!?…\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH EXCLAMATION MARK}\N{FULLWIDTH QUESTION MARK}"
_INDENTED = re.compile(r" {4}|\t")


class ThinkingTags:
    """Reads one answer, in pieces of any size. A tag that is quoted in a sentence or in code stays text."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._unread = ""
        self._closing_tag = ""
        self._has_thought = False

    def read(self, piece: str) -> Iterator[tuple[str, bool]]:
        """Yields each piece with whether it is a thought. What may be the beginning of a tag waits for the next."""
        self._unread += piece
        while tag := self._find_tag():
            before, self._unread = self._unread[: tag.start()], self._unread[tag.end() :]
            if self._closing_tag:
                yield from self._mark(before)
                self._closing_tag = ""
            elif _opens_thought("".join(self._text) + before):
                self._has_thought = True  # so that blanks before the first thought are left out
                yield from self._mark(before)
                self._closing_tag = _CLOSING[tag[0]]
            else:
                # In two pieces: pydantic-ai takes a piece that is a tag and nothing else for the start of a thought.
                yield from self._mark(before + tag[0][:-1])
                yield from self._mark(tag[0][-1])
        certain = len(self._unread) - self._count_waiting()
        before, self._unread = self._unread[:certain], self._unread[certain:]
        yield from self._mark(before)

    def end(self) -> Iterator[tuple[str, bool]]:
        """Yields what waited, since no tag follows."""
        before, self._unread = self._unread, ""
        yield from self._mark(before)

    def _find_tag(self) -> re.Match[str] | None:
        return re.search(re.escape(self._closing_tag) if self._closing_tag else _OPENING_TAG, self._unread)

    def _count_waiting(self) -> int:
        """Returns how many characters at the end may begin a tag, with the blanks before the first one."""
        end = self._unread[max(self._unread.rfind("<"), self._unread.rfind("["), 0) :]
        tags = [self._closing_tag] if self._closing_tag else _CLOSING
        waiting = len(end) if any(tag.startswith(end) for tag in tags) else 0
        is_start = not (self._text or self._closing_tag)
        return len(self._unread) if is_start and not self._unread[: -waiting or None].strip() else waiting

    def _mark(self, piece: str) -> Iterator[tuple[str, bool]]:
        if self._closing_tag:
            if piece:
                yield piece, True
            return
        if self._has_thought and not self._text:
            piece = piece.lstrip()  # the lines between the thought and the answer
        if piece:
            self._text.append(piece)
            yield piece, False


def _opens_thought(before: str) -> bool:
    """Tells whether a tag after this text begins a thought, and is no quotation.

    It does at the start of the answer or of a line, or glued to a word or a full stop; not in code, nor after a colon.
    """
    line = before.rpartition("\n")[2]
    if not before.strip():
        return not _INDENTED.match(line)
    if len(_FENCE.findall(before)) % 2 or line.count("`") % 2:
        return False
    if not line.strip():
        return not (_INDENTED.match(line) or before.rstrip().endswith(_COLONS))
    return (line[-1].isascii() and line[-1].isalnum()) or line[-1] in _FULL_STOPS
