"""Translates the names of a project's modules, and of what is in them, to those after an update."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache

from parley.moves import Moves, module_of, parents


class Names:
    """Translates dotted names and paths. What did not exist before the update is left as it is.

    So the name of a module that became a package of that name is not translated a second time.
    """

    def __init__(self, moves: Moves, before: Iterable[str], imports: Callable[[str], Mapping[str, str]]) -> None:
        """Takes the project's paths `before` the update; `imports` returns what a file imports from others, by name."""
        self.moves = moves
        self._modules = dict(_modules(before))
        self._imports = cache(imports)
        changed = [*moves.names, *(module for module in self._modules if self.of(module) != module)]
        words = "|".join(sorted({re.escape(name.rpartition(".")[2]) for name in changed})) or r"\Z."
        self._words = re.compile(rf"\b(?:{words})\b")
        roots = "|".join(sorted({re.escape(module.split(".")[0]) for module in self._modules})) or r"\Z."
        self._token = re.compile(rf"(?<![\w./-])(?:\./)?(?:{roots})(?:(?:\.[A-Za-z_]\w*)+(?![\w/])|(?:/[\w.-]+)+/?)")

    def concern(self, text: str) -> bool:
        """Returns whether a text may contain a renamed name. Most do not, and need not be parsed."""
        return bool(self._words.search(text)) or self.in_text(text) != text

    def is_module(self, dotted: str) -> bool:
        return dotted in self._modules

    def of(self, dotted: str) -> str:
        """Returns the new form of a dotted name, which may be of something inside a known module or part."""
        head, rest = dotted, ""
        while head:
            if head in self.moves.names:
                return self.moves.names[head] + rest
            if head in self._modules:
                path = self._modules[head]
                moved = self.moves.path(path)
                return (head if moved == path else module_of(moved)) + self._local(path, rest)
            head, _, last = head.rpartition(".")
            rest = f".{last}{rest}"
        return dotted

    def _local(self, path: str, rest: str) -> str:
        """Returns the new form of what follows a module's name, which the module may import from another one."""
        name, dot, further = rest.removeprefix(".").partition(".")
        full = self._imports(path).get(name, "") if name and path.endswith(".py") else ""
        return f".{self.moves.names[full].rpartition('.')[2]}{dot}{further}" if full in self.moves.names else rest

    def split_items(self, module: str) -> list[tuple[str, str]]:
        """Returns the names of a module that are in the list of moves, each with its new dotted name."""
        split = ((*old.rpartition("."), new) for old, new in self.moves.names.items())
        return [(name, new) for origin, _, name, new in split if origin == module]

    def split_from(self, module: str) -> Mapping[str, str]:
        """Returns those of them that were renamed, or moved elsewhere than the rest of the module."""
        return {name: new for name, new in self.split_items(module) if new != f"{self.of(module)}.{name}"}

    def in_text(self, text: str) -> str:
        """Returns a text with the new forms of the dotted names and paths in it."""
        return self._token.sub(lambda found: self._token_of(found[0]), text)

    def _token_of(self, token: str) -> str:
        if "/" not in token:
            return self.of(token)
        path = token.removeprefix("./").rstrip(".")
        return token.replace(path, self.moves.path(path), 1)


def _modules(paths: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yields dotted names and paths, folders first, so that the `__init__.py` of a package overrides its folder."""
    found = [path for path in paths if path.endswith(".py") and all(map(str.isidentifier, path[:-3].split("/")))]
    folders = {folder for path in found for folder in parents(path)}
    yield from ((module_of(folder), folder) for folder in folders)
    yield from ((module_of(path), path) for path in sorted(found))
