"""Tests that a terminal shows every letter of a text and obeys none."""

import time

import pytest

from app.core.display import DisplayableStream, displayable

KEPT = [
    "10\N{NO-BREAK SPACE}000\N{NARROW NO-BREAK SPACE}€",
    "全角\N{IDEOGRAPHIC SPACE}空白",
    "👨\N{ZERO WIDTH JOINER}👩\N{ZERO WIDTH JOINER}👧 ❤\N{VARIATION SELECTOR-16} 👋🏽",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f 🇺🇳",
    "می\N{ZERO WIDTH NON-JOINER}خواهم \N{RIGHT-TO-LEFT MARK}עברית\N{LEFT-TO-RIGHT MARK} \N{ARABIC LETTER MARK}",
    "e\N{COMBINING ACUTE ACCENT}\N{COMBINING DOT BELOW} क्षि soft\N{SOFT HYPHEN}ly word\N{WORD JOINER}s",
    "\N{ZERO WIDTH NO-BREAK SPACE}a\N{EM SPACE}b\N{ZERO WIDTH SPACE}c \ue0b0 \U0001fae9 \U0003fffd",
    "tab\tand\nlines\n\n",
    ":bug: [red]no markup[/red] 100 % \\x1b[0m",
]
OBEYED = [
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b[2J\x1b[1;1Hcleared", "cleared"),
    ("\x9b31mred\x9b0m", "red"),
    ("\x1b]0;a title\x07text", "text"),
    ("\x1b]0;größe\x1b\\text", "text"),
    ("\x9d0;a title\x9ctext", "text"),
    ("\x1b]8;;http://evil.example\x1b\\a link\x1b]8;;\x1b\\", "a link"),
    ("\x1b]52;c;Y29weQ==\x07copied", "copied"),
    ("\x1bP1$r0m\x1b\\text\x1b^x\x1b\\\x1b_y\x1b\\\x1bXz\x1b\\", "text"),
    ("\x90q\x9c\x98q\x9c\x9eq\x9c\x9fq\x9ctext", "text"),
    ("\x1bcreset\x1b(Bcharset\x1b7\x1b8", "resetcharset"),
    ("\x1b[?1049h\x1b[>4;2m\x1b[ qcursor", "cursor"),
    ("safe\rover\b\b\b\bwritten\x7f\a\v\f\0", "safeoverwritten"),
    ("one\r\ntwo\x85\x84three", "one\ntwothree"),
    ("one\u2028two\u2029three", "one\ntwo\nthree"),
    ("user\u202etxt.exe\u202c \u2066isolated\u2069 \u202aembedded\u202b\u202d", "usertxt.exe isolated embedded"),
    ("\x1b\x1b[31mtwice", "twice"),
    ("\x1b[31;\x1b[1mcut off", "31;cut off"),
    ("\x1b[ölig", "ölig"),
    ("\x1b]0;no end\nof the title", "0;no end\nof the title"),
    ("the end \x1b", "the end "),
    ("the end \x1b[31", "the end 31"),
    ("the end \x1b]0;title", "the end 0;title"),
]


@pytest.mark.parametrize("text", KEPT)
def test_every_letter_joiner_and_space_stays(text: str) -> None:
    assert displayable(text) == text
    assert in_pieces(text, 1) == text


@pytest.mark.parametrize(("text", "shown"), OBEYED)
@pytest.mark.parametrize("length", [1, 2, 3, 5, 1_000])
def test_no_sequence_is_obeyed_however_it_is_divided(text: str, shown: str, length: int) -> None:
    assert displayable(text) == shown
    assert in_pieces(text, length) == shown


def test_a_text_does_not_wait_for_an_end_that_never_comes() -> None:
    shown = DisplayableStream()
    pieces = [shown.add("\x1b]0;" if number == 0 else "word ") for number in range(1_000)]
    assert "word" in "".join(pieces)
    assert shown.add("plain") == "plain"


@pytest.mark.parametrize("hostile", ["\x9d", "\x1b[", "\x1b]", "\x1b[0;", "\x9d\x1b", "\x1b (", "\x1bP\x9b1"])
def test_no_text_costs_more_than_its_length(hostile: str) -> None:
    start = time.process_time()
    in_pieces(hostile * 20_000 + "x", 1_000)
    assert time.process_time() - start < 5


def in_pieces(text: str, length: int) -> str:
    shown = DisplayableStream()
    pieces = [shown.add(text[place : place + length]) for place in range(0, len(text), length)]
    return "".join([*pieces, shown.end()])
