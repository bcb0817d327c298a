"""Joins the halves of characters, since streams of JSON may end a piece between two of them."""


class SurrogatePairs:
    """Joins the halves of characters that a stream splits, as `"\\ud83d"` and `"\\ude00"` in JSON."""

    def __init__(self) -> None:
        self._half = ""

    def join(self, piece: str) -> str:
        """Returns the text that is whole by now. A first half at the end waits for the second."""
        piece, self._half = self._half + piece, ""
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return join_surrogates(piece)

    def end(self) -> str:
        """Returns a replacement character for a half whose other half never came; else nothing."""
        return join_surrogates(self._half)


def join_surrogates(text: str) -> str:
    """Joins surrogate pairs, and replaces halves that are alone by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
