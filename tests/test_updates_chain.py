"""Tests that projects of 0.1 with agents alone get chat, which agents need since 0.2."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lives import databases
from processes import run, succeed
from proofs import Proofs
from releases import HERE, git, real
from test_updates import AFFECTED, Begin, beginning, prove

from parley.template import read_origin

pytestmark = [pytest.mark.deep, pytest.mark.slow, pytest.mark.updates]

OWN = (sys.executable, "-m", "app.cli")
BEFORE_THE_CHAIN = [
    (version, way) for version in real() if version.startswith("v0.1.") for way in ("own", "parley", "copier")
]


@pytest.fixture
def begin(released: Path, tmp_path: Path) -> Iterator[Begin]:
    with databases() as urls:
        yield beginning(released, tmp_path / "project", urls)


@pytest.mark.parametrize(("old", "way"), BEFORE_THE_CHAIN)
def test_a_project_with_agents_alone_gets_chat(old: str, way: str, begin: Begin, proofs: Proofs) -> None:
    """Updates by each command. That of a project of 0.1 does not know that agents need chat since 0.2, and says so."""
    life = begin(old, {"features": ["agents"]})
    life.edit()
    life.migrate("add notes")
    life.fill()
    match way:
        case "own":
            refused = run(*OWN, "update", "--yes", "--to", HERE, cwd=life.folder, **life.settings(""))
            assert "The feature agents needs chat: choose both, or neither." in refused.stdout
            assert not git(life.folder, "status", "--porcelain")
            life.command("update", "--yes", "--with", "chat", "--to", HERE)
            life.finish()
        case "parley":
            assert "  features = ['chat', 'agents']\n" in life.update("--to", HERE)
        case _:
            succeed("copier", "update", "--defaults", "--vcs-ref", HERE, cwd=life.folder)
            life.finish()
    assert read_origin(life.folder).answers["features"] == ["chat", "agents"]
    life.check_files()
    life.check_databases()
    assert all({"conversations", "messages"} <= tables.keys() for tables in life.rows().values())
    prove(life, proofs, "agents alone", *AFFECTED, "tests/integration/test_chat.py", "tests/integration/test_runs.py")
