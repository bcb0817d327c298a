import io
import wave

import pytest

from app.services.speech.tts import pieces, wav_header


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("One. Two.", 9, ["One. Two."]),
        ("One. Two. Three.", 9, ["One. Two.", "Three."]),
        ("One! Two? Three", 12, ["One! Two?", "Three"]),
        ("He said “no.” Then he left.", 20, ["He said “no.”", "Then he left."]),
        ("Pi is 3.14 and more", 12, ["Pi is 3.14", "and more"]),
        ("one\ntwo three", 10, ["one", "two three"]),
        ("一二三。四五六。", 5, ["一二三。", "四五六。"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("  a b  ", 4, ["a b"]),
    ],
)
def test_a_text_is_cut_after_a_sentence_or_a_word(text: str, limit: int, expected: list[str]) -> None:
    assert list(pieces(text, limit)) == expected


def test_nothing_is_lost_and_no_piece_is_too_long() -> None:
    text = "The quick brown fox, e.g. this one, jumps. Over 3.5 lazy dogs! Why?\n\nNobody knows… " * 50
    for limit in (1, 7, 40, 300, 4_096):
        found = list(pieces(text, limit))
        assert all(len(piece) <= limit for piece in found)
        assert "".join("".join(found).split()) == "".join(text.split())


def test_a_header_says_what_follows() -> None:
    with wave.open(io.BytesIO(wav_header(22_050) + bytes(100))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22_050)
