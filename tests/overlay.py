"""Lays the template's own tests of projects over a project, beside those that its owner has.

`python tests/overlay.py PROJECT` does it by hand.
"""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment

FOLDER = Path(__file__).parent / "laid_over"
CONDITIONS = FOLDER.with_suffix(".yml")


def lay_over(project: Path) -> Path:
    """Copies the tests for the project's answers into it, and returns it. Raises FileExistsError; replaces no file."""
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    for name in tests_for(answers):
        target = project / "tests" / name
        if target.exists():
            raise FileExistsError(f"tests/{name} is in the project already: rename or remove one of the two.")
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(FOLDER / name, target)
    return project


def tests_for(answers: Mapping[str, Any]) -> list[str]:
    """Returns the paths below `tests/` of the tests that are laid over a project with these answers."""
    names = [path.relative_to(FOLDER).as_posix() for path in sorted(FOLDER.rglob("*.py"))]
    not_for_it = {
        name
        for condition, listed in yaml.safe_load(CONDITIONS.read_text(encoding="utf-8")).items()
        if not Environment(autoescape=True).compile_expression(condition)(**answers)
        for name in listed
    }
    return [name for name in names if name not in not_for_it]


def of_providers() -> set[str]:
    """Returns the paths of the tests that answers about providers decide."""
    conditions = yaml.safe_load(CONDITIONS.read_text(encoding="utf-8")).items()
    return {name for condition, names in conditions if "_providers" in condition for name in names}


if __name__ == "__main__":
    lay_over(Path(sys.argv[1]))
