"""Takes changes of docstrings out of a merge, so that what the user wrote beside them does not conflict."""

import ast
from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Docstring(NamedTuple):
    """Holds the lines of a docstring; `last` is the line after it, counted from 0."""

    first: int
    last: int
    text: str


def with_new_docstrings(mine: str, base: str, theirs: str) -> tuple[str, str]:
    """Returns the user's module and the old one with the docstrings of the new one, where the user left them alone."""
    try:
        here, before, after = (docstrings(side) for side in (mine, base, theirs))
    except SyntaxError:
        return mine, base
    places = {name: _place(name, old, here) for name, old in before.items()}
    new = {
        name: after[name].text
        for name, old in before.items()
        if places[name] is not None and name in after and old.text != after[name].text
    }
    kept = {place: new[name] for name, place in places.items() if place is not None and name in new}
    return _replaced(mine, here, kept), _replaced(base, before, new)


def _place(name: str, old: Docstring, here: Mapping[str, Docstring]) -> str | None:
    """Returns where the user's module has an old docstring: under its name, or under one that was put before it."""
    if name in here:
        return name if here[name].text == old.text else None
    same = [other for other, found in here.items() if found.text == old.text]
    return same[0] if len(same) == 1 else None


def docstrings(text: str) -> Mapping[str, Docstring]:
    """Finds docstrings, by the name of what they describe. Two of one name are left out. Raises SyntaxError."""
    lines = text.splitlines(keepends=True)
    found: dict[str, Docstring] = {}
    seen: set[str] = set()
    for name, node in _strings(ast.parse(text), ""):
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        before, after = lines[first].encode()[: node.col_offset], lines[last - 1].encode()[node.end_col_offset or 0 :]
        if not before.strip() and not after.strip() and name not in seen:
            found[name] = Docstring(first, last, "".join(lines[first:last]))
        elif name in seen:
            found.pop(name, None)
        seen.add(name)
    return found


def _strings(
    owner: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str
) -> Iterator[tuple[str, ast.Expr]]:
    described = name
    for node in owner.body:
        match node:
            case ast.Expr(ast.Constant(str())):
                yield described, node
            case ast.Assign(targets=[ast.expr() as target]) | ast.AnnAssign(target=target):
                described = f"{name}.{ast.unparse(target)}="
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _strings(node, f"{name}.{node.name}")
            case _:
                pass


def _replaced(text: str, known: Mapping[str, Docstring], changed: Mapping[str, str]) -> str:
    lines = text.splitlines(keepends=True)
    for name in sorted(changed, key=lambda name: known[name].first, reverse=True):
        lines[known[name].first : known[name].last] = [changed[name]]
    return "".join(lines)
