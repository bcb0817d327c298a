"""Tests that the same answers give the same bytes, wherever and whenever."""

import json
import stat
import sys
from pathlib import Path

import pytest
from conftest import Render
from matrix import MATRIX
from processes import succeed
from residue import files
from texts import ACCEPTED

COPY = """
import runpy, sys, time_machine
with time_machine.travel(sys.argv.pop(1)):
    runpy.run_module("copier", run_name="__main__", alter_sys=True)
"""
HERE = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}
ELSEWHERE = {"TZ": "Asia/Kolkata", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONHASHSEED": "2"}
"""Makes Python read and write ASCII, unless it is told otherwise."""


def contents(project: Path) -> dict[str, tuple[int, bytes]]:
    """Returns the mode and the bytes of every file."""
    found = {path.relative_to(project).as_posix(): path for path in files(project)}
    return {name: (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) for name, path in found.items()}


@pytest.mark.parametrize("name", ["default", "smallest", "largest"])
def test_another_day_locale_and_time_zone_change_nothing(
    name: str, template: Path, tmp_path: Path, render: Render
) -> None:
    answers = {**ACCEPTED[3], **next(v.answers for v in MATRIX.variants if v.name == name)}
    (tmp_path / "answers.json").write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")
    copy = ["copy", "--quiet", "--defaults", "--data-file", "answers.json", str(template)]
    succeed(sys.executable, "-c", COPY, "2026-12-01", *copy, "here", cwd=tmp_path, **HERE)
    succeed(sys.executable, "-c", COPY, "2031-02-28", *copy, "elsewhere", cwd=tmp_path, **ELSEWHERE)
    assert contents(tmp_path / "here") == contents(tmp_path / "elsewhere") == contents(render(**answers))


def test_a_difference_is_seen(tmp_path: Path) -> None:
    for folder, text in (("one", "1"), ("other", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text(text)
    assert contents(tmp_path / "one") != contents(tmp_path / "other")
