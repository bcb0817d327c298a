from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from app.schemas.base import Body, Read, Text, Words


class AudioFormat(StrEnum):
    mp3 = "mp3"
    opus = "opus"
    """Comes in an Ogg container."""
    wav = "wav"
    pcm = "pcm"
    """Holds bare samples: 16 bits, little-endian, one channel; the response's content type gives the sample rate."""


VoiceName = Annotated[Text, Field(min_length=1, max_length=200)]
Speed = Annotated[float, Field(ge=0.25, le=4)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2}$", description="ISO 639-1, such as `en`")]


class SynthesisCreate(Body):
    text: Words
    voice: VoiceName | None = None
    """Names one of the voices that `/speech/voices` lists; without it the default voice speaks."""
    format: AudioFormat | None = None
    """Defaults to the first of the formats that `/speech/voices` lists."""
    speed: Speed = 1


class TranscriptionCreate(Body):
    """Holds the form fields that are sent along with the audio."""

    language: Language | None = None
    """Names the language that is spoken; without it the provider detects the language."""


class VoiceRead(Read):
    id: str
    name: str


class VoicesRead(Read):
    voices: Sequence[VoiceRead]
    formats: Sequence[AudioFormat]
    slowest: float
    fastest: float


class SegmentRead(Read):
    start: float
    """Counts seconds from the beginning of the audio, as `end` does."""
    end: float
    text: str


class TranscriptionRead(Read):
    text: str
    language: str | None
    """Names the language as the provider does; null where the provider does not say."""
    duration: float
    """Gives the length of the audio in seconds."""
    segments: Sequence[SegmentRead] | None
    """Splits the text into segments with times; null where the provider gives none."""
