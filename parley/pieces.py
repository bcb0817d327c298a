"""Cuts a Python module into its definitions, each with the comments above it and the text below it."""

import ast
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    first: int
    last: int
    """Ends the lines of the piece, which count from 0; this one is not part of it."""

    def cut(self, text: str) -> str:
        return "".join(text.splitlines(keepends=True)[self.first : self.last])


def pieces(text: str) -> Mapping[str, Piece]:
    """Returns the definitions of a module by name, and of classes also `Class.member`. Raises SyntaxError."""
    found: dict[str, Piece] = {}
    lines = text.splitlines(keepends=True)
    tree = ast.parse(text)
    for names, piece, node in _definitions(tree.body, lines):
        found |= dict.fromkeys(names, piece)
        if isinstance(node, ast.ClassDef):
            for members, inner, _ in _definitions(node.body, lines):
                found |= {f"{node.name}.{member}": inner for member in members}
    return found


def _definitions(body: list[ast.stmt], lines: list[str]) -> Iterator[tuple[list[str], Piece, ast.stmt]]:
    for index, node in enumerate(body):
        if not (names := _defined(node)):
            continue
        end = node
        if isinstance(node, ast.Assign | ast.AnnAssign) and index + 1 < len(body) and _is_text(body[index + 1]):
            end = body[index + 1]
        decorators = getattr(node, "decorator_list", [])
        first = min(item.lineno for item in [node, *decorators]) - 1
        while first and lines[first - 1].lstrip().startswith("#"):
            first -= 1
        yield names, Piece(first, end.end_lineno or end.lineno), node


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def without(text: str, gone: list[Piece]) -> str:
    """Returns a module without some of its parts, and without the empty lines that follow them."""
    lines = text.splitlines(keepends=True)
    for piece in sorted(set(gone), key=lambda piece: -piece.first):
        last = piece.last
        while last < len(lines) and not lines[last].strip():
            last += 1
        del lines[piece.first : last]
    while gone and lines and not lines[-1].strip():
        lines.pop()
    return "".join(lines)


def imported(text: str) -> Mapping[str, tuple[str, str]]:
    """Returns what a module imports at its top: the module and the name in it ("" for a module), by local name."""
    found: dict[str, tuple[str, str]] = {}
    for node in _top(ast.parse(text).body):
        if isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.split(".")[0]: (alias.name, "") for alias in node.names}
    return found


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _top(node.body)


def used(text: str) -> set[str]:
    """Returns the names that a part of a module uses; none if it cannot be parsed."""
    try:
        tree = ast.parse(textwrap.dedent(text))
    except SyntaxError:
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
