"""Tests that a default project works, and passes its own tests, in each environment that its owner may have.

Other tests here share an environment that has every extra, in which nobody sees what needs one.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from checks import KILLS, Project, chosen_tests, passed
from conftest import Render
from container import OF_UV, SYSTEM
from overlay import lay_over
from pages import blocks
from processes import ROOT, run, succeed
from servers import free_port
from test_pages import UNTIL_IT_SERVES, filled

pytestmark = pytest.mark.slow
EXTRAS = ("speech-offline", "telemetry")
OF_SERVICES = ("REQUIRE_SERVICES", "TEST_DATABASE_URL", "TEST_REDIS_URL")


SEES_EXTRAS = "test_what_reads_cost|speech|telemetry"
"""Matches tests that may notice which extras are installed. The largest variant's whole suite runs with all of them."""


class Newcomer:
    """Types into a shell as somebody with uv, a Python and an empty home."""

    def __init__(self, home: Path, **settings: str) -> None:
        home.mkdir()
        self._home, self._settings = home, settings

    def types(self, script: str, folder: Path, **more: str) -> str:
        """Returns what the commands printed. Raises AssertionError when one of them fails."""
        told = [f"{name}={value}" for name, value in {**self._environment(), **self._settings, **more}.items()]
        done = run("env", "-i", *told, "bash", "-euo", "pipefail", "-c", script, cwd=folder)
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def tests(self, project: Path, *arguments: str) -> int:
        """Types the README's command. Returns how many tests passed."""
        said = self.types(" ".join(("uv run pytest", *arguments)), project, PYTEST_ADDOPTS="-rs")
        return passed(said, has_extras="pocketsphinx" in self.types("uv pip list --quiet", project))

    def _environment(self) -> dict[str, str]:
        """Returns what this machine needs to reach packages and services, and no more."""
        uv = shutil.which("uv")
        assert uv
        cache = succeed("uv", "cache", "dir", cwd=ROOT).splitlines()[-1]
        kept = {name: value for name, value in os.environ.items() if OF_UV.match(name) or name in OF_SERVICES}
        path = f"{Path(uv).resolve().parent}:{Path(sys.base_prefix) / 'bin'}:{SYSTEM}"
        return {**kept, "PATH": path, "HOME": str(self._home), "UV_CACHE_DIR": cache, "UV_PYTHON_DOWNLOADS": "never"}


@pytest.fixture
def newcomer(tmp_path: Path) -> Newcomer:
    return Newcomer(tmp_path / "home")


def section(project: Path, title: str) -> list[str]:
    """Returns the commands of a section of the project's README, a text for each block."""
    readme = (project / "README.md").read_text(encoding="utf-8")
    [text] = re.findall(rf"(?ms)^## {title}\n(.*?)(?=^## |\Z)", readme)
    return [block.text for block in blocks(text) if block.language == "sh"]


@pytest.mark.fresh
def test_a_fresh_project_does_what_its_readme_says(template: Path, newcomer: Newcomer, tmp_path: Path) -> None:
    """Runs the commands word for word, but for the port and the address of the template."""
    copy = re.search(r"(?m)^uvx copier copy <template> my-bot$", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert copy
    newcomer.types(filled(f"{copy[0]} --defaults --quiet", {"<template>": str(template)}), tmp_path)
    project = tmp_path / "my-bot"
    [serve] = section(project, "Run it")
    ask, *_ = section(project, "Chat with it")
    [work] = section(project, "Run an agent")[:1]
    port = free_port()
    words = {"127.0.0.1:8000": f"127.0.0.1:{port}", "my-bot dev": f"my-bot dev --port={port}"}
    begun = ": > served.txt", f"{serve.strip()} > served.txt 2>&1 &", *UNTIL_IT_SERVES
    said = newcomer.types(filled("\n".join([*begun, ask, work]), words), project)
    assert "event: message.completed" in said
    assert "event: execution.completed" in said
    assert "uv run my-bot doctor" in (project / "README.md").read_text(encoding="utf-8")
    assert "problem" not in newcomer.types("uv run my-bot doctor", project)
    tests, checks = section(project, "Test it")[0].splitlines()
    assert tests == "uv run pytest"
    newcomer.tests(project)
    newcomer.types(checks, project)


@pytest.mark.environments
@pytest.mark.parametrize("extra", EXTRAS)
def test_a_default_project_passes_its_tests_with_one_extra(extra: str, render: Render, newcomer: Newcomer) -> None:
    project = lay_over(render())
    newcomer.types(f"uv sync --quiet --extra={extra}", project)
    assert newcomer.tests(project, *chosen_tests(project, KILLS, SEES_EXTRAS))


@pytest.mark.environments
def test_a_default_project_passes_its_tests_on_the_lowest_versions(render: Render, tmp_path: Path) -> None:
    project, newcomer = lay_over(render()), Newcomer(tmp_path / "home", UV_RESOLUTION="lowest-direct")
    newcomer.types("uv sync --quiet --all-extras", project)
    assert newcomer.tests(project)
    [lowest] = [name for name in Project(project).requirements if name.startswith("fastapi>=")]
    assert lowest.replace(">=", "==") in newcomer.types("uv pip freeze", project)


@pytest.mark.environments
@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_a_default_project_runs_without_what_developers_need(extra: str, render: Render, newcomer: Newcomer) -> None:
    project, port = render(), free_port()
    sync = " ".join(("uv sync --quiet --no-dev", *([f"--extra={extra}"] if extra else [])))
    run = "uv run --no-sync my-bot"
    serve = f"{run} serve --port={port} > served.txt 2>&1 &"
    health = f"curl --silent --fail http://127.0.0.1:{port}/health/ready"
    begun = (sync, f"{run} init", f"{run} db upgrade", f"{run} doctor", ": > served.txt", serve, *UNTIL_IT_SERVES)
    assert '"ready"' in newcomer.types("\n".join([*begun, health]), project)


@pytest.mark.environments
def test_a_path_that_fails_without_an_extra_is_found(render: Render, newcomer: Newcomer) -> None:
    """Plants the fault of 0.1.0: a project that passed with every extra failed its own tests without them."""
    project = render()
    router = project / "app" / "api" / "v1" / "speech.py"
    text = router.read_text(encoding="utf-8")
    fault = "    request.app.state.speech_providers.tts.get()\n    return await read_voices("
    planted = text.replace("    return await read_voices(", fault)
    assert planted != text
    router.write_text(planted, encoding="utf-8")
    with pytest.raises(AssertionError, match="test_what_reads_cost"):
        newcomer.tests(project, "tests/integration/test_sweeps.py")


def test_every_extra_has_an_environment(default_project: Path) -> None:
    assert set(EXTRAS) == Project(default_project).described["project"]["optional-dependencies"].keys()
