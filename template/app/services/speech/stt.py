"""What the rest of the application knows of audio that is written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.services.speech.audio import Audio


@dataclass(frozen=True, slots=True)
class Segment:
    """Seconds from the beginning, and what is said between them."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    text: str
    language: str | None = None
    segments: Sequence[Segment] | None = None


class STT(Protocol):
    """Somebody who listens."""

    @property
    def name(self) -> str:
        """`provider:model`, under which its use is counted."""
        ...

    async def transcribe(self, path: Path, audio: Audio, language: str | None) -> Transcript:
        """What is said in the file, which has been looked at. Raises Invalid and SpeechFailure."""
        ...
