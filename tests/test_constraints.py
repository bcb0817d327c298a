"""Tests that choices which exclude each other are refused with a validator's sentence, as options and at the prompt."""

import json
from pathlib import Path

import pytest
from matrix import MATRIX, Matrix, Row
from processes import run
from terminal import converse
from test_matrix import CONSTRAINED

DOWN, TOGGLE, CLEAR = "\x1b[B", " ", "\x15"
SENTENCES = ["A and B exclude each other.", "C needs more room.", "There one must be fast."]


@pytest.fixture
def constrained(tmp_path: Path) -> Path:
    """Makes a small template with validators of both kinds: of a question, and of a single choice."""
    folder = tmp_path / "constrained"
    (folder / "template").mkdir(parents=True)
    (folder / "copier.yml").write_text(CONSTRAINED)
    (folder / "template" / "file.jinja").write_text("{{ place }}\n")
    return folder


def refusals(matrix: Matrix, template: Path, folder: Path) -> list[str]:
    """Returns the last line that Copier prints for every pair that the matrix leaves out."""
    return [refusal(matrix, template, folder, pair) for pair in matrix.refused]


def refusal(matrix: Matrix, template: Path, folder: Path, pair: Row) -> str:
    questions = matrix.questions
    answers = questions.answers({**questions.row({}), **pair})
    (folder / "answers.json").write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")
    done = run("copier", "copy", "--defaults", "--data-file", "answers.json", template, "made", cwd=folder)
    assert done.returncode == 1, (pair, done.stdout)
    assert not (folder / "made").exists()
    return done.stdout.splitlines()[-1]


def test_every_refused_pair_of_the_template_is_refused(template: Path, tmp_path: Path) -> None:
    said = refusals(MATRIX, template, tmp_path)
    expected = [MATRIX.questions.refusal({**MATRIX.questions.row({}), **pair}) for pair in MATRIX.refused]
    assert all(sentence in line for sentence, line in zip(expected, said, strict=True))


def test_what_is_given_with_the_command_is_refused_with_its_sentence(constrained: Path, tmp_path: Path) -> None:
    matrix = Matrix(constrained, code={"parts", "size"})
    said = refusals(matrix, constrained, tmp_path)
    assert sorted(sentence for sentence in SENTENCES for line in said if sentence in line) == SENTENCES


def test_a_pair_that_is_left_out_without_a_reason_is_noticed(constrained: Path, tmp_path: Path) -> None:
    matrix = Matrix(constrained, code={"parts", "size"})
    with pytest.raises(AssertionError):
        refusal(matrix, constrained, tmp_path, {"size": "m", "fast": True})


def test_what_is_typed_is_refused_with_its_sentence(constrained: Path, tmp_path: Path) -> None:
    """Chooses B, which is refused since A is the default, and takes it back."""
    answers = {
        "size": "",
        "parts": f"{DOWN}{TOGGLE}",
        "A and B exclude each other.": TOGGLE,
        "fast": "",
        "place": "",
        "python_version": "",
    }
    screen = converse("copier", "copy", constrained, "made", cwd=tmp_path, answers=answers)
    assert "C needs more room." in screen
    assert (tmp_path / "made" / "file").read_text() == "here\n"
