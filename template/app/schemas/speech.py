from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from app.schemas.base import Body, Read, Text, Words


class AudioFormat(StrEnum):
    mp3 = "mp3"
    opus = "opus"
    """In Ogg."""
    wav = "wav"
    pcm = "pcm"
    """Samples alone: 16 bits, little-endian, one channel; the rate is in the answer's content type."""


VoiceName = Annotated[Text, Field(min_length=1, max_length=200)]
Speed = Annotated[float, Field(ge=0.25, le=4)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2}$", description="ISO 639-1, such as `en`")]


class SynthesisCreate(Body):
    text: Words
    voice: VoiceName | None = None
    """One of those that `/speech/voices` names. Without it the usual one speaks."""
    format: AudioFormat | None = None
    """Without it the first of those that `/speech/voices` names."""
    speed: Speed = 1


class TranscriptionCreate(Body):
    """Beside the audio."""

    language: Language | None = None
    """Of what is said; without it the provider finds out."""


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
    """Seconds."""
    end: float
    text: str


class TranscriptionRead(Read):
    text: str
    language: str | None
    """As the provider names it; null where it does not say."""
    duration: float
    """Seconds."""
    segments: Sequence[SegmentRead] | None
    """Null where the provider has none."""
