"""Lists which files an answer decides, from the blocks of `_exclude`."""

import re

from matrix import QUESTIONS

ANSWER = re.compile(r"'([\w-]+)' not in (\w+)(?: \| default\(\[\]\))?")
BLOCK = re.compile(rf"{{% if ({ANSWER.pattern}(?: or {ANSWER.pattern})*) %}}\n(.*?){{% endif %}}", re.DOTALL)


DEPLOYED = {"deployment": QUESTIONS.choices("deployment")}
"""Chooses every deployment, so that files which need one of them beside another answer are there."""


def manifest() -> list[tuple[str, str, str]]:
    """Returns question, value and pattern of every line; a file that needs several answers has a row for each."""
    found = [match for entry in QUESTIONS.settings["_exclude"] for match in BLOCK.finditer(entry)]
    return [
        (question, value, line)
        for answers, lines in ((match[1], match.groups()[-1]) for match in found)
        for value, question in ANSWER.findall(answers)
        for line in lines.split()
    ]


def shared() -> tuple[str, ...]:
    """Returns the patterns of files that are left out only where several answers are missing."""
    lines = [line.strip() for entry in QUESTIONS.settings["_exclude"] for line in BLOCK.sub("", entry).splitlines()]
    return tuple(line for line in lines if "/" in line)
