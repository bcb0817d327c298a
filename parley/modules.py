"""Merges two changes of a Python module: its imports as a set of names, the rest as lines."""

import ast
import builtins
from pathlib import Path
from typing import NamedTuple

import libcst as cst
from libcst.codemod import CodemodContext
from libcst.codemod.visitors import AddImportsVisitor, RemoveImportsVisitor

from parley.git import merge
from parley.pieces import imported

HELD = "# The imports of this module.\n"


class Texts(NamedTuple):
    """Holds a module as the user has it, as it was rendered, and as it is rendered now."""

    mine: str
    base: str
    theirs: str


def merge_modules(scratch: Path, sides: Texts, whole: str) -> tuple[str, int]:
    """Merges a module. Returns it and the number of conflicts; imports never conflict.

    `whole` is the user's module before parts of it moved elsewhere, perhaps with the last use of an import.
    """
    merged, conflicts = _merge(scratch, sides)
    if conflicts:
        try:
            text, others = _merge(scratch, Texts(*(_without_imports(side)[0] for side in sides)))
            if others < conflicts:
                merged, conflicts = text.replace(HELD, _without_imports(sides.theirs)[1], 1), others
        except SyntaxError:
            pass  # what cannot be parsed is merged by lines alone
    if conflicts:
        return merged, conflicts
    try:
        return with_imports(without_unused(merged, sides.mine, whole), sides.mine, whole), 0
    except SyntaxError:
        return merged, 0


def without_unused(text: str, mine: str, whole: str) -> str:
    """Removes the imports whose last use has moved elsewhere."""
    unused = (_used(ast.parse(whole)) - _used(ast.parse(mine))) - _used(ast.parse(text))
    known, context = imported(text), CodemodContext()
    for name in unused & known.keys():
        module, what = known[name]
        plain = what or module.split(".")[0]
        RemoveImportsVisitor.remove_unused_import(context, module, what or None, None if plain == name else name)
    return (
        RemoveImportsVisitor(context).transform_module(cst.parse_module(text)).code if unused & known.keys() else text
    )


def _merge(scratch: Path, sides: Texts) -> tuple[str, int]:
    merged, conflicts = merge(scratch, sides.mine.encode(), sides.base.encode(), sides.theirs.encode())
    return merged.decode(), conflicts


def _without_imports(text: str) -> tuple[str, str]:
    """Returns a module with a placeholder for its first block of imports, and that block. Raises SyntaxError."""
    lines = text.splitlines(keepends=True)
    body = ast.parse(text).body
    first = next((index for index, node in enumerate(body) if isinstance(node, ast.Import | ast.ImportFrom)), None)
    if first is None:
        start = (body[0].end_lineno or 0) if body and ast.get_docstring(ast.Module(body, [])) is not None else 0
        return "".join([*lines[:start], *(["\n"] if start else []), HELD, "\n", *_stripped(lines[start:])]), ""
    last = first
    while last + 1 < len(body) and isinstance(body[last + 1], ast.Import | ast.ImportFrom):
        last += 1
    start, end = body[first].lineno - 1, body[last].end_lineno or body[last].lineno
    return "".join([*lines[:start], HELD, "\n", *_stripped(lines[end:])]), "".join(lines[start:end])


def _stripped(lines: list[str]) -> list[str]:
    """Drops the empty lines at the beginning."""
    first = next((index for index, line in enumerate(lines) if line.strip()), len(lines))
    return lines[first:]


def with_imports(text: str, other: str, whole: str = "") -> str:
    """Adds the imports that a module lacks, as the module `other` has them. Raises SyntaxError.

    Adds also those imports of `other` that `whole` does not use, such as re-exports.
    """
    known, tree = imported(other), ast.parse(text)
    missing = (_used(tree) | (known.keys() - _used(ast.parse(whole)) if whole else set())) - _bound(tree)
    context = CodemodContext()
    for name in sorted(missing & known.keys()):
        module, what = known[name]
        plain = what or module.split(".")[0]
        AddImportsVisitor.add_needed_import(context, module, what or None, None if plain == name else name)
    return AddImportsVisitor(context).transform_module(cst.parse_module(text)).code if missing & known.keys() else text


def _used(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _bound(tree: ast.AST) -> set[str]:
    found = set(dir(builtins))
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                found |= {alias.asname or alias.name.split(".")[0] for alias in aliases}
            case _:
                pass
    return found
