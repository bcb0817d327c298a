"""Tests that whatever is typed into a question for a text is refused with a sentence, or makes a sound project."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from copier import run_copy
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix import QUESTIONS
from rendering import quick
from residue import names
from texts import REFUSED
from writing import check_writing

SENTENCE = re.compile(
    r"The (project name|project slug|project description|author name|e-mail address) (has|must not) .+"
    r'|".*" is (not a slug: use|reserved \(|not an e-mail address such as).+\.?',
    re.DOTALL,
)
MARKS = st.sampled_from(list("\"'\\`${}<>#%&|;:!?*@=~^()[]/.,-_+ \t\n\r\x00\x1b\x7f\x85\u200b\u202e\u2028\ufeff🤖é本א"))
WORDS = st.sampled_from(
    ["{{ 7 * 7 }}", "{% raw %}", "${HOME}", "$(id)", "`id`", "null", "yes", "0x1F", "---", "'''", "..", "a"]
)
TYPED = st.one_of(
    st.text(max_size=12),
    st.lists(MARKS | WORDS, max_size=8).map("".join),
    st.from_regex(r"\A[a-z][a-z0-9.+-]{0,8}(@[a-z.-]{1,10})?\Z"),
    st.integers(0, 300).map("x".__mul__),
)
"""Generates mostly characters that mean something to some language, and now and then what a question wants."""


@pytest.fixture(scope="session")
def tried(template: Path, tmp_path_factory: pytest.TempPathFactory, default_project: Path) -> Callable[[str, str], str]:
    """Returns a function that renders with one answer and returns the sentence of a refusal, or nothing if sound."""
    folder = tmp_path_factory.mktemp("hostile") / "project"

    def attempt(question: str, typed: str) -> str:
        try:
            with quick():
                run_copy(str(template), folder, data={question: typed}, defaults=True, quiet=True)
        except ValueError as error:
            assert not folder.exists()
            return str(error)
        check_sound(folder, default_project)
        shutil.rmtree(folder)
        return ""

    return attempt


def check_sound(project: Path, default: Path) -> None:
    """Checks that answers are in no Python file: those must be the default project's, whose suite passes."""
    check_writing(project)
    assert names(project) == names(default)
    for name in names(project):
        if name.endswith((".py", ".mako", ".ini")):
            assert (project / name).read_bytes() == (default / name).read_bytes()


def sentence_in(refusal: str, question: str) -> str:
    return refusal.removeprefix(f"Validation error for question '{question}': ")


@pytest.mark.parametrize("question", QUESTIONS.texts)
def test_what_is_refused_is_refused_with_a_sentence(question: str, tried: Callable[[str, str], str]) -> None:
    for typed in REFUSED[question]:
        refusal = tried(question, typed)
        assert SENTENCE.fullmatch(sentence_in(refusal, question)), (typed, refusal)


@pytest.mark.deep
@pytest.mark.parametrize("question", QUESTIONS.texts)
def test_anything_is_refused_with_a_sentence_or_rendered(question: str, tried: Callable[[str, str], str]) -> None:
    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(TYPED)
    def attempt(typed: str) -> None:
        refusal = tried(question, typed)
        assert not refusal or SENTENCE.fullmatch(sentence_in(refusal, question)), (typed, refusal)

    attempt()
