"""Sorts imports and breaks lines of rewritten modules, by the project's own rules."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from ruff import find_ruff_bin


class Tidy:
    def __init__(self, folder: Path, packages: Iterable[str], *options: str, rules: str = "I") -> None:
        """Takes the `folder` of the project's pyproject.toml, and its own `packages`, which may lack modules yet.

        `rules` of Ruff are fixed, in the form of `--select`: `F401` is an unused import.
        """
        own = ", ".join(f"'{package}'" for package in sorted(packages))
        self._folder = folder
        self._options = (f"--config=lint.isort.known-first-party=[{own}]", *options)
        self._mended = ("check", f"--select={rules}", "--fix")
        self._ruff = find_ruff_bin()

    def tidied(self, content: bytes, path: str) -> bytes:
        """Returns a module with its imports sorted and its lines broken; unchanged if that is impossible."""
        for command in (self._mended, ("format",)):
            told = (*command, *self._options, "--quiet", "--no-cache", f"--stdin-filename={path}", "-")
            done = subprocess.run(
                [self._ruff, *told], cwd=self._folder, input=content, capture_output=True, check=False
            )
            if done.returncode != 0:
                return content
            content = done.stdout
        return content

    def text(self, text: str, path: str) -> str:
        return self.tidied(text.encode(), path).decode()
