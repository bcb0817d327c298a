"""Tests what is reported of an environment's version of Python."""

import sys
from pathlib import Path

import pytest

from app.cli._python_version import describe_python

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def answered(folder: Path, text: str) -> Path:
    (folder / ".copier-answers.yml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("line", ["python_version: '3.99'", 'python_version: "3.99"', "python_version: 3.99"])
def test_another_python_is_said_with_the_command_that_changes_it(line: str, tmp_path: Path) -> None:
    assert describe_python(answered(tmp_path, f"project_slug: my-bot\n{line}\nsetup: quick\n")) == (
        f"This environment runs Python {HERE}, and the project is made for 3.99: "
        "`uv sync --python 3.99` recreates the environment; name the extras that you use, too"
    )


def test_minor_versions_are_compared_whole(tmp_path: Path) -> None:
    assert describe_python(answered(tmp_path, f"python_version: '{HERE}9'\n"))
    assert describe_python(answered(tmp_path, f"python_version: '{HERE[:-1]}'\n"))


@pytest.mark.parametrize(
    "text",
    [f"python_version: '{HERE}'\n", "", "python_version: [\n", "# python_version: '3.99'\n", "python_version: new\n"],
)
def test_nothing_is_said_of_the_same_or_where_there_is_no_answer(text: str, tmp_path: Path) -> None:
    assert describe_python(answered(tmp_path, text)) is None


def test_nothing_is_said_where_answers_cannot_be_read(tmp_path: Path) -> None:
    assert describe_python(tmp_path) is None
    (tmp_path / ".copier-answers.yml").write_bytes(b"python_version: '3.99' # \xff\n")
    assert describe_python(tmp_path) is None
