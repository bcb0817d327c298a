"""Tests that the format of a file is detected by its content, whatever it is called."""

import random
from pathlib import Path

import av
import pytest

from app.services.speech.audio import SAMPLE_RATE, AudioTooLong, BadAudio, NoSpeechFound, decode, inspect
from app.services.speech.tts import wav_header
from tests.recordings import CODECS, RATE, recording, tone, wav

TAGS = b"ID3\x04\0\0\0\0\x10\0" + bytes(2048)
NO_FORMAT = "Unsupported audio format; use one of flac, m4a, mp3, ogg, wav, webm."
SENTENCE = {
    b"": "The file is empty.",
    b"Dear Sir or Madam, this is a letter.": NO_FORMAT,
    b"RIFF": NO_FORMAT,
    b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hosts\n": NO_FORMAT,
    b"ffconcat version 1.0\nfile /etc/hosts\n": NO_FORMAT,
    b"RIFF\xff\xff\xff\xffWAVE" + bytes(40): "The wav file is damaged or not complete.",
    b"OggS" + bytes(100): "The ogg file is damaged or not complete.",
    b"ID3" + bytes(100): "The mp3 file is damaged or not complete.",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Has a suffix that says nothing of the format."""
    return tmp_path / "upload.txt"


@pytest.mark.parametrize("format", CODECS)
def test_every_format_is_known_by_its_content(format: str, path: Path) -> None:
    path.write_bytes(recording(format))
    audio = inspect(path, 10)
    assert audio.format == format
    assert audio.seconds == pytest.approx(2, abs=0.15)
    decode(path, format, samples := path.with_suffix(".pcm"))
    assert samples.stat().st_size == round(audio.seconds * SAMPLE_RATE) * 2


@pytest.mark.parametrize("format", ["wav", "mp3", "m4a", "webm", "flac"])
def test_a_file_that_is_not_complete_is_refused(format: str, path: Path) -> None:
    whole = recording(format)
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(BadAudio, match="not complete"):
        inspect(path, 10)


@pytest.mark.parametrize(("content", "sentence"), SENTENCE.items(), ids=lambda value: repr(value[:12]))
def test_what_is_no_audio_is_refused(content: bytes, sentence: str, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(BadAudio) as caught:
        inspect(path, 10)
    assert str(caught.value) == sentence


TITLE = b"INFOINAM\x06\0\0\0Caf\xe9!\0"
TITLED = {
    "wav": lambda file: file[:36] + b"LIST" + len(TITLE).to_bytes(4, "little") + TITLE + file[36:],
    "mp3": lambda file: b"ID3\x03\0\0\0\0\0\x0fTIT2\0\0\0\x05\0\0\x03Caf\xe9" + file,
}
"""Inserts a title that is not UTF-8 into a file that is complete."""


@pytest.mark.parametrize("format", TITLED)
def test_a_title_in_whatever_encoding_is_no_damage(format: str, path: Path) -> None:
    whole = bytearray(TITLED[format](recording(format)))
    if format == "wav":
        whole[4:8] = (len(whole) - 8).to_bytes(4, "little")
    path.write_bytes(whole)
    assert inspect(path, 10).format == format


def test_more_samples_than_anybody_records_are_refused(path: Path) -> None:
    """Refuses rates whose resampling would keep a processor busy for minutes."""
    whole = bytearray(recording("wav"))
    whole[24:28] = (1_442_856_576).to_bytes(4, "little")
    path.write_bytes(whole)
    with pytest.raises(BadAudio, match="more than 768000 samples a second"):
        inspect(path, 10)


@pytest.mark.parametrize("format", CODECS)
def test_whatever_is_in_a_file_it_is_audio_or_refused(format: str, path: Path) -> None:
    """Spoils the first part of a file: bytes are replaced, removed or repeated."""
    chance = random.Random(format)  # noqa: S311
    for _ in range(25):
        path.write_bytes(spoiled(recording(format, 0.3), chance))
        try:
            decode(path, inspect(path, 10).format, path.with_suffix(".pcm"))
        except BadAudio:
            continue


def spoiled(whole: bytes, chance: random.Random) -> bytes:
    file = bytearray(whole)
    for _ in range(chance.choice([1, 2, 8])):
        start = chance.randrange(chance.choice([64, 256, len(whole) // 2]))
        end = start + chance.randrange(5)
        file[start:end] = chance.choice([b"", b"\xff" * 4, bytes(4), chance.randbytes(end - start)])
    return bytes(file)


def test_damage_is_found_wherever_it_is(path: Path) -> None:
    whole = recording("mp3", 10)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(600) + whole[middle + 600 :])
    with pytest.raises(BadAudio):
        inspect(path, 20)


def test_two_hours_are_too_long(path: Path) -> None:
    path.write_bytes(wav(tone(1))[:40] + (2 * 3_600 * RATE * 2).to_bytes(4, "little"))
    with path.open("r+b") as file:
        file.truncate(44 + 2 * 3_600 * RATE * 2)  # a sparse file, of which the file system stores nothing
    with pytest.raises(AudioTooLong, match=r"^The audio is longer than 600 seconds\.$"):
        inspect(path, 600)


def test_without_a_limit_nothing_is_too_long(path: Path) -> None:
    path.write_bytes(recording("wav"))
    assert inspect(path, 0).seconds == 2


@pytest.mark.parametrize("samples", [b"", bytes(RATE * 2), tone(1, loudness=20)], ids=["none", "zeros", "hum"])
def test_silence_is_refused(samples: bytes, path: Path) -> None:
    path.write_bytes(wav(samples))
    with pytest.raises(NoSpeechFound, match=r"^Nothing can be heard in this audio\.$"):
        inspect(path, 10)


def test_a_film_without_sound_is_refused(path: Path) -> None:
    with av.open(str(path), "w", format="webm") as out:
        stream = out.add_stream("libvpx", rate=1)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 16
        out.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        out.mux(stream.encode(None))
    with pytest.raises(BadAudio, match=r"^There is no audio in this file\.$"):
        inspect(path, 10)


def test_tags_before_an_mp3_and_a_length_that_it_does_not_tell(path: Path) -> None:
    """Ignores an estimate of the length, which is wrong where the bit rate varies."""
    frames = _frames(8_000) + _frames(128_000)
    for content, seconds in ((TAGS + recording("mp3"), 2), (frames, 4), (TAGS + frames, 4)):
        path.write_bytes(content)
        assert inspect(path, 10).seconds == pytest.approx(seconds, abs=0.3)


def _frames(bit_rate: int) -> bytes:
    """Returns the frames without the first one, which holds their number."""
    whole = recording("mp3", bit_rate=bit_rate)
    return whole[whole.index(b"\xff\xf3", whole.index(b"Info")) :]


def test_what_this_service_speaks_it_understands(path: Path) -> None:
    """Has a header that declares the length unknown."""
    path.write_bytes(wav_header(RATE) + tone(2))
    assert inspect(path, 10).seconds == 2
