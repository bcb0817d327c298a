"""Limits how much code a project's owner owns: lines of Python, which may only become fewer or reach the goal."""

from pathlib import Path

import pytest
from conftest import Render

PROJECTS: dict[str, tuple[list[str], int, int, int]] = {
    "default": (["chat", "agents", "speech"], 8_000, 14_000, 27_550),
    "chat alone": (["chat"], 5_000, 9_000, 19_350),
    "no feature": ([], 3_500, 6_000, 13_250),
}
"""Holds the features, the goals of 0.2 for tests and application, and the latter's present limit, which falls.

It rose for what the field reported: 670 lines read streams of models' servers as they are; 400 are for parameters of
PostgreSQL's URLs, poolers, listening and prefixes; 450 for files without hard links, spellings of passwords, reserved
domains, consoles of any encoding, and commands that can be pasted. Background jobs of any kind took 1,200 more, and
branches of conversations 450. Reasoning, its effort and structured output of models took 210, agents that answer in
conversations 1,700, of which chat alone has 590, and searching conversations and writing titles 480. Tools that clients
run took 280, structured output that is checked 520, summaries of histories 220, and reasoning in plain replies 150.
The languages of OpenAI's clients and of the AI SDK took 1,690 and 640, and what they ask of models, agents and
conversations 600. Closing connections to the database that come back late took 40. What superusers see of everyone
took 510, of which every project has 320.
"""


def lines(folder: Path) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py"))


@pytest.mark.parametrize("name", PROJECTS)
def test_an_owner_has_few_lines_to_keep(name: str, render: Render) -> None:
    features, tests, goal, reached = PROJECTS[name]
    project = render(features=features)
    assert lines(project / "tests") <= tests
    assert lines(project / "app") <= max(goal, reached)
