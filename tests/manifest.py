"""Which files belong to one answer alone: the blocks of `_exclude`."""

import re

from matrix import QUESTIONS

BLOCK = re.compile(r"{% if '(\w+)' not in (\w+) %}\n(.*?){% endif %}", re.DOTALL)


def manifest() -> list[tuple[str, str, str]]:
    """Question, value and pattern of every line."""
    found = [match.groups() for entry in QUESTIONS.settings["_exclude"] for match in BLOCK.finditer(entry)]
    return [(question, value, line) for value, question, lines in found for line in lines.split()]
