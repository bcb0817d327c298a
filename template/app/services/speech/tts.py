"""Defines the interface of text to speech, and splits long texts."""

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.core.errors import Invalid
from app.schemas.speech import AudioFormat

UNKNOWN_BYTES = 0xFFFFFFFF
"""Stands for the size in the header of a WAV file that is written before its size is known."""
_SENTENCE_END = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s)|[\u3002\uff01\uff1f\n]")
_BLANK = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Voice:
    id: str
    name: str


class NoSuchVoice(Invalid):
    code = "no_such_voice"

    def __init__(self, voice: str) -> None:
        super().__init__(f"There is no voice {voice}; GET /speech/voices lists the voices.")


class TTS(Protocol):
    """Reads text aloud; each provider implements it."""

    @property
    def name(self) -> str:
        """Returns `provider:model`, under which usage is counted."""
        ...

    @property
    def formats(self) -> Sequence[AudioFormat]:
        """Lists the formats, the default first. With `pcm`, `wav` is offered, too, without being listed here."""
        ...

    @property
    def sample_rate(self) -> int:
        """Returns the samples a second of `pcm`."""
        ...

    @property
    def speeds(self) -> tuple[float, float]:
        """Returns the slowest and the fastest speed; 1 is normal."""
        ...

    @property
    def max_characters(self) -> int:
        """Limits the text of one call of `speak`."""
        ...

    async def voices(self) -> Sequence[Voice]:
        """Lists the voices. Raises SpeechFailure."""
        ...

    def speak(self, text: str, voice: str | None, format: AudioFormat, speed: float) -> AsyncGenerator[bytes]:
        """Yields audio as it arrives. Raises NoSuchVoice and SpeechFailure."""
        ...


def pieces(text: str, limit: int) -> Iterator[str]:
    """Splits the text into pieces of at most `limit` characters, at the end of a sentence or else of a word."""
    text = text.strip()
    while len(text) > limit:
        end = _last_end(_SENTENCE_END, text, limit) or _last_end(_BLANK, text, limit) or limit
        yield text[:end].rstrip()
        text = text[end:].lstrip()
    yield text


def wav_header(sample_rate: int) -> bytes:
    """Returns the header of a WAV file of unknown length, which players read to its end."""
    size = UNKNOWN_BYTES.to_bytes(4, "little")
    rate, bytes_per_second = sample_rate.to_bytes(4, "little"), (sample_rate * 2).to_bytes(4, "little")
    layout = b"\x10\0\0\0" + b"\x01\0\x01\0" + rate + bytes_per_second + b"\x02\0\x10\0"
    return b"RIFF" + size + b"WAVEfmt " + layout + b"data" + size


def _last_end(pattern: re.Pattern[str], text: str, limit: int) -> int:
    """Returns where the last match within the limit ends; 0 if there is none."""
    return max((found.end() for found in pattern.finditer(text, 0, limit + 1) if found.end() <= limit), default=0)
