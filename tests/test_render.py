"""Tests what a render looks like, before anything is installed."""

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Render
from matrix import QUESTIONS
from processes import succeed
from releases import commit, git
from small import needs_git
from texts import ACCEPTED
from writing import check_writing

ANSWERS: list[dict[str, Any]] = [
    *ACCEPTED,
    {"author_email": "ada@example.com"},
    *[{"license": value, "author_name": "Ö. O'Neil, Jr."} for value in QUESTIONS.choices("license")],
    *[{"ai_providers": [value]} for value in QUESTIONS.choices("ai_providers")],
]


@pytest.mark.parametrize("answers", ANSWERS, ids=repr)
def test_files_parse_and_say_what_was_answered(answers: dict[str, Any], render: Render) -> None:
    check_writing(render(**answers))


def test_every_question_is_recorded(default_project: Path) -> None:
    recorded = yaml.safe_load((default_project / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert QUESTIONS.asked.keys() == {name for name in recorded if not name.startswith("_")}


@pytest.mark.parametrize(
    ("license", "words"),
    [
        ("MIT", "MIT License\n\nCopyright (c) Ada\n\nPermission is hereby granted"),
        ("Apache-2.0", "Apache License"),
        ("BSD-3-Clause", "Neither the name of the copyright holder"),
        ("GPL-3.0", "GNU GENERAL PUBLIC LICENSE"),
        ("proprietary", "Copyright (c) Ada. All rights reserved."),
    ],
)
def test_licenses(license: str, words: str, render: Render) -> None:
    assert words in (render(license=license, author_name="Ada") / "LICENSE").read_text(encoding="utf-8")


def test_dependencies_are_sorted_with_lower_bounds(default_project: Path) -> None:
    described = tomllib.loads((default_project / "pyproject.toml").read_text(encoding="utf-8"))
    for group in (described["project"]["dependencies"], described["dependency-groups"]["dev"]):
        bare = [requirement.split(">=")[0].split("[")[0] for requirement in group]
        assert bare == sorted(bare)
        assert all(re.fullmatch(r"[a-z0-9\-]+(\[[a-z0-9,\-]+\])?>=[0-9.]+", requirement) for requirement in group)


def line_about_the_manual(project: Path) -> str:
    [line] = re.findall(r"(?m)^The manual is .*$", (project / "README.md").read_text(encoding="utf-8"))
    return line


def test_the_manual_of_a_local_template_is_its_folder(template: Path, default_project: Path) -> None:
    assert line_about_the_manual(default_project).startswith(f"The manual is the folder `{template}/docs/`: ")


@needs_git
def test_the_manual_of_a_template_elsewhere_is_a_link_without_a_password(template: Path, tmp_path: Path) -> None:
    repository, address = (
        shutil.copytree(template, tmp_path / "parley"),
        "https://ada:secret@github.com/acme/parley.git",
    )
    git(repository, "init", "--quiet")
    commit(repository)
    here = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }
    succeed("copier", "copy", "--quiet", "--defaults", address, "made", cwd=tmp_path, **here)
    page = "https://github.com/acme/parley/tree/HEAD/docs"
    assert f"]({page}): " in line_about_the_manual(tmp_path / "made")
    assert "secret" not in line_about_the_manual(tmp_path / "made")
