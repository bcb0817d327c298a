"""Finds undeclared distributions where several share one package, as opentelemetry's do: to deptry they are one."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import distributions, packages_distributions
from pathlib import Path
from typing import Any

from residue import files, imported_by


def unnamed(project: Path, described: Mapping[str, Any]) -> Iterator[str]:
    """Lists the distributions of shared packages that the application imports and that pyproject.toml does not name."""
    needed = [*described["project"]["dependencies"]]
    for extra in described["project"]["optional-dependencies"].values():
        needed += extra
    named = {re.split(r"[\[>]", requirement)[0] for requirement in needed}
    for path in files(project / "app"):
        for module in imported_by(path) if path.suffix == ".py" else ():
            if (found := _modules().get(module, "")) and found not in named:
                yield f"{path} imports {module}, and nothing names {found}"


@cache
def _modules() -> dict[str, str]:
    """Returns the distribution of each module in a shared package, as installed beside these tests."""
    shared = {package for package, found in packages_distributions().items() if len(set(found)) > 1}
    found: dict[str, str] = {}
    for distribution in distributions():
        for file in distribution.files or ():
            if file.suffix == ".py" and file.parts[0] in shared:
                module = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
                found[module] = distribution.name.lower().replace("_", "-")
    return found
