"""Extracts the text of a web page. It runs in a process of its own, and so imports little."""

import re
from typing import Any


def text_of_page(body: bytes, encoding: str, is_html: bool) -> str:
    """Returns the text, of HTML as Markdown. Raises LookupError, UnicodeError, MemoryError and RecursionError."""
    text = body.decode(encoding, errors="replace")
    if is_html:
        from markdownify import MarkdownConverter

        converter: Any = MarkdownConverter(strip=["img"])
        text = converter.convert(text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
