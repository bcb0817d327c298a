"""Tests that docstrings are sentences that begin with a verb: "Cancels an execution and its subagents."."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ROOT

FOLDERS = ("parley", "scripts", "template/alembic/env.py", "template/app", "template/tests", "tests")
VERB = re.compile(r"[A-Z][a-z]+s\b")
NO_VERBS = {"Always", "As", "Bytes", "Executions", "Its", "Messages", "Perhaps", "Rows", "Seconds", "Settings"}
NO_VERBS |= {"Sockets", "Texts", "This", "Those", "Thus", "Tokens", "Us", "Words"}
READ_BY_OTHERS = ("template/app/cli/", "template/app/services/tools/", "template/tests/unit/test_toolbox.py")
"""Names what is the help of a command or the description of a tool, which are orders: "Create an account."."""


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the line and the text of each docstring, also of those below constants and fields."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            match statement:
                case ast.Expr(ast.Constant(str(text))):
                    yield statement.lineno, text.strip()
                case _:
                    pass


def is_sentence(text: str) -> bool:
    first = re.split(r"\n\s*\n", text)[0] or " "
    verb = VERB.match(text)
    return verb is not None and verb[0] not in NO_VERBS and first[-1] in ".:)`"


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_are_sentences(folder: str) -> None:
    place = ROOT / folder
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))
        if not path.relative_to(ROOT).as_posix().startswith(READ_BY_OTHERS)
        for line, text in docstrings(path)
        if not is_sentence(text)
    ]
    assert wrong == []


@pytest.mark.parametrize("text", ["What it does.", "Those of a person.", "Rows of a table.", "Cancels it", ""])
def test_what_is_no_sentence_is_found(text: str) -> None:
    assert not is_sentence(text)
