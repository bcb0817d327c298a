"""Defines the interface of speech to text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.services.speech.audio import Audio


@dataclass(frozen=True, slots=True)
class Segment:
    """Holds what is said between two times, in seconds from the beginning."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    text: str
    language: str | None = None
    segments: Sequence[Segment] | None = None


class STT(Protocol):
    """Transcribes audio; each provider implements it."""

    @property
    def name(self) -> str:
        """Returns `provider:model`, under which usage is counted."""
        ...

    async def transcribe(self, path: Path, audio: Audio, language: str | None) -> Transcript:
        """Transcribes a file that `inspect` has checked. Raises Invalid and SpeechFailure."""
        ...
