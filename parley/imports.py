"""Finds imports of what does not exist, without running anything."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from parley.pieces import pieces


def unresolved(folder: Path, paths: Iterable[str], packages: Iterable[str]) -> Iterator[str]:
    """Yields a sentence for each import of something that these packages do not have."""
    roots = set(packages)
    for path in sorted(paths):
        tree = _parsed(folder / path) if path.endswith(".py") else None
        for node in ast.walk(tree) if tree else ():
            for dotted in _imports(node):
                if dotted.split(".")[0] in roots and not _is_there(folder, dotted):
                    yield f"{path}, line {getattr(node, 'lineno', 0)}: there is no {dotted}."


def _parsed(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None  # Python itself reports that


def _imports(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=aliases):
            return [alias.name for alias in aliases]
        case ast.ImportFrom(module=str(module), names=aliases, level=0):
            return [f"{module}.{alias.name}" if alias.name != "*" else module for alias in aliases]
        case _:
            return []


def _is_there(folder: Path, dotted: str) -> bool:
    """Returns whether a dotted name is a module, or may be something in one."""
    path = folder / dotted.replace(".", "/")
    if path.is_dir() or path.with_name(f"{path.name}.py").is_file():
        return True
    package = path.parent / "__init__.py"
    module = package if package.is_file() else path.parent.with_name(f"{path.parent.name}.py")
    tree = _parsed(module) if module.is_file() else None
    if tree is None:
        return module.is_file()
    known = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | pieces(ast.unparse(tree)).keys()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            known |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    return path.name in known or bool(known & {"*", "__getattr__"})
