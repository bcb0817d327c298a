"""How much code a project's owner owns: lines of Python, which may only become fewer or reach the goal."""

from pathlib import Path

import pytest
from conftest import Render

TESTS: dict[str, tuple[list[str], int]] = {
    "default": (["chat", "agents", "speech"], 8_000),
    "chat alone": (["chat"], 5_000),
    "no feature": ([], 3_500),
}
"""The goal of 0.2 for tests."""
APP: dict[str, tuple[list[str], int, int]] = {
    "default": (["chat", "agents", "speech"], 14_000, 16_750),
    "chat alone": (["chat"], 9_000, 11_250),
    "no feature": ([], 6_000, 9_345),
}
"""The goal of 0.2 for the application, and what is reached: the second number goes down to the first."""


def lines(folder: Path) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py"))


@pytest.mark.parametrize("name", TESTS)
def test_an_owner_has_few_tests_to_keep(name: str, render: Render) -> None:
    features, most = TESTS[name]
    assert lines(render(features=features) / "tests") <= most


@pytest.mark.parametrize("name", APP)
def test_an_application_does_not_grow(name: str, render: Render) -> None:
    features, goal, reached = APP[name]
    assert lines(render(features=features) / "app") <= max(goal, reached)
