"""What the rest of the application knows of text that is read aloud."""

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.core.errors import Invalid
from app.schemas.speech import AudioFormat

UNKNOWN_BYTES = 0xFFFFFFFF
"""The size in the header of a WAV file that is written before its end is known."""
_SENTENCE_END = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s)|[\u3002\uff01\uff1f\n]")
_BLANK = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Voice:
    id: str
    name: str


class NoSuchVoice(Invalid):
    code = "no_such_voice"

    def __init__(self, voice: str) -> None:
        super().__init__(f"There is no voice {voice}; GET /speech/voices names those that there are.")


class TTS(Protocol):
    """Somebody who reads aloud."""

    @property
    def name(self) -> str:
        """`provider:model`, under which its use is counted."""
        ...

    @property
    def formats(self) -> Sequence[AudioFormat]:
        """The usual one first. Who makes `pcm` makes `wav`, too, of which it need not know."""
        ...

    @property
    def sample_rate(self) -> int:
        """Of `pcm`."""
        ...

    @property
    def speeds(self) -> tuple[float, float]:
        """The slowest and the fastest."""
        ...

    @property
    def max_characters(self) -> int:
        """Of one request."""
        ...

    async def voices(self) -> Sequence[Voice]:
        """Raises SpeechFailure."""
        ...

    def speak(self, text: str, voice: str | None, format: AudioFormat, speed: float) -> AsyncGenerator[bytes]:
        """Audio as it arrives. Raises NoSuchVoice and SpeechFailure."""
        ...


def pieces(text: str, limit: int) -> Iterator[str]:
    """The text in parts of at most so many characters, which end where a sentence does, or else a word."""
    text = text.strip()
    while len(text) > limit:
        end = _last_end(_SENTENCE_END, text, limit) or _last_end(_BLANK, text, limit) or limit
        yield text[:end].rstrip()
        text = text[end:].lstrip()
    yield text


def wav_header(sample_rate: int) -> bytes:
    """Of a file whose length nobody knows yet, which players read to its end."""
    size = UNKNOWN_BYTES.to_bytes(4, "little")
    rate, bytes_per_second = sample_rate.to_bytes(4, "little"), (sample_rate * 2).to_bytes(4, "little")
    layout = b"\x10\0\0\0" + b"\x01\0\x01\0" + rate + bytes_per_second + b"\x02\0\x10\0"
    return b"RIFF" + size + b"WAVEfmt " + layout + b"data" + size


def _last_end(pattern: re.Pattern[str], text: str, limit: int) -> int:
    """Where the last match ends that lies within the limit; 0 without one."""
    return max((found.end() for found in pattern.finditer(text, 0, limit + 1) if found.end() <= limit), default=0)
