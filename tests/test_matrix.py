"""Tests that the matrix holds every pair of answers that go together, and no other."""

import json
import re
import sys
from collections import Counter
from itertools import combinations, product
from pathlib import Path

import pytest
import yaml
from checks import Project
from conftest import Render
from matrix import CODE, MATRIX, QUESTIONS, ROOT, Matrix, pairs
from processes import succeed

CONSTRAINED = """
_subdirectory: template
size: {type: str, default: s, choices: [s, m, l]}
parts:
  type: str
  multiselect: true
  default: [a]
  choices: {A: a, B: b, C: {value: c, validator: "{% if size == 's' %}C needs more room.{% endif %}"}}
  validator: "{% if 'a' in parts and 'b' in parts %}A and B exclude each other.{% endif %}"
fast: {type: bool, default: false}
place:
  type: str
  default: here
  choices: [here, there]
  validator: "{% if place == 'there' and not fast %}There one must be fast.{% endif %}"
python_version: {type: str, default: "3.13", choices: ["3.13", "3.14"]}
"""
EXCLUDED = [
    {"size": "s", "parts: c": True},
    {"parts: a": True, "parts: b": True},
    {"place": "there", "fast": False},
]


@pytest.fixture
def constrained(tmp_path: Path) -> Matrix:
    (tmp_path / "copier.yml").write_text(CONSTRAINED)
    return Matrix(tmp_path, code={"parts", "size"})


def without(folder: Path, change: str, instead: str) -> Matrix:
    """Makes the matrix of the real questions, with a change to them."""
    text = (ROOT / "copier.yml").read_text(encoding="utf-8")
    assert change in text
    (folder / "copier.yml").write_text(text.replace(change, instead, 1), encoding="utf-8")
    (folder / "extensions").symlink_to(ROOT / "extensions")
    return Matrix(folder)


def test_every_pair_of_choices_is_in_a_variant() -> None:
    rows = [QUESTIONS.row(variant.answers) for variant in MATRIX.variants]
    covered = {pair for row in rows for pair in pairs(row)}
    for (one, ones), (other, others) in combinations(QUESTIONS.options.items(), 2):
        for value, another in product(ones, others):
            pair = {one: value, other: another}
            assert pair in MATRIX.refused or pairs(pair) <= covered, pair
    assert MATRIX.uncovered(MATRIX.variants) == []


def test_a_value_that_no_variant_has_is_missed(tmp_path: Path) -> None:
    longer = without(tmp_path, "choices: [MIT,", "choices: [EUPL-1.2, MIT,")
    assert {"license": "EUPL-1.2", "database": "sqlite"} in longer.uncovered(MATRIX.variants)
    assert longer.uncovered(longer.variants) == []


def test_a_question_that_the_matrix_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="license: use `ask`"):
        _ = without(tmp_path, "  help: Which license should the project have?", "  when: true").questions.options


def test_a_number_is_no_question_that_the_matrix_knows(tmp_path: Path) -> None:
    (tmp_path / "copier.yml").write_text("port: {type: int, default: 8000}")
    with pytest.raises(ValueError, match="port: the matrix knows"):
        _ = Matrix(tmp_path).questions.options


def test_what_validators_exclude_is_in_no_variant(constrained: Matrix) -> None:
    assert {frozenset(pair.items()) for pair in constrained.refused} == {frozenset(pair.items()) for pair in EXCLUDED}
    rows = [constrained.questions.row(variant.answers) for variant in constrained.variants]
    for excluded in EXCLUDED:
        assert not [row for row in rows if excluded.items() <= row.items()]
    assert constrained.uncovered(constrained.variants) == []


def test_chance_chooses_valid_answers_and_the_same_again(constrained: Matrix) -> None:
    chosen = constrained.random(50, seed=3)
    assert chosen == constrained.random(50, seed=3) != constrained.random(50, seed=4)
    assert not [v for v in chosen if constrained.questions.refusal(constrained.questions.row(v.answers))]


def test_names_differ_and_say_what_is_not_the_default() -> None:
    names = [variant.name for variant in MATRIX.variants]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9.+-]+", name) for name in names)
    for variant in MATRIX.variants:
        if variant.name not in {"default", "smallest", "largest"}:
            assert ("postgresql" in variant.name) == (variant.answers["database"] == "postgresql")
            assert ("no-features" in variant.name) == (variant.answers["features"] == [])


def test_the_extremes_are_there() -> None:
    answers = {variant.name: variant.answers for variant in MATRIX.variants}
    many = [name for name in QUESTIONS.asked if QUESTIONS.many(name)]
    assert answers["default"] == QUESTIONS.answers(QUESTIONS.row({}))
    assert [answers["smallest"][name] for name in many] == [[] for _ in many]
    assert [answers["largest"][name] for name in many] == [QUESTIONS.choices(name) for name in many]


def test_enough_variants_have_environments_of_their_own() -> None:
    own = [variant for variant in MATRIX.variants if variant.own]
    assert {"default", "smallest", "largest"} < {variant.name for variant in own}
    assert {variant.python for variant in own} == set(QUESTIONS.choices("python_version"))


def test_few_codes_are_in_many_variants() -> None:
    codes = Counter(json.dumps([variant.answers[name] for name in sorted(CODE)]) for variant in MATRIX.variants)
    assert len(codes) <= 10


@pytest.mark.parametrize("question", sorted(QUESTIONS.asked.keys() - CODE - set(QUESTIONS.texts) - {"setup"}))
def test_other_answers_change_no_code(question: str, render: Render) -> None:
    choices = QUESTIONS.choices(question)
    values = [[], *([value] for value in choices)] if QUESTIONS.many(question) else choices
    prints = {Project(render(**{question: value})).fingerprint() for value in values}
    assert len(prints) == 1


def test_a_program_can_read_the_matrix() -> None:
    listed = json.loads(succeed(sys.executable, "tests/matrix.py", "--json", cwd=ROOT))
    assert [(v["name"], v["python"], v["answers"]) for v in listed] == [
        (v.name, v.python, v.answers) for v in MATRIX.variants
    ]


def test_ci_makes_a_job_of_each_variant() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    listing, job = workflow["jobs"]["list"], workflow["jobs"]["variant"]
    assert "uvx nox -s variants -- --list --json" in json.dumps(listing["steps"])
    assert job["strategy"]["matrix"] == {"include": "${{ fromJson(needs.list.outputs.variants) }}"}
    assert job["steps"][-1] == {"run": 'uvx nox -s variants -- "$VARIANT"', "env": {"VARIANT": "${{ matrix.name }}"}}
