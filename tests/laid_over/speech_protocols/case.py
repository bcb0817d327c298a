"""What every provider's protocol has, whatever words it uses."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest

from app.services.speech.stt import Transcript
from app.services.speech.tts import Voice
from tests.protocols.dialect import KEY
from tests.protocols.server import Answer, Request

TEXT = "Do you know hunter2?"
"""Which no log may repeat, nor the key."""


@dataclass(frozen=True)
class Read:
    """What a provider was asked to read aloud, in no one's words."""

    path: str
    key: str
    text: str
    voice: str
    format: str
    speed: float


class Dialect(ABC):
    provider: ClassVar[str]
    key_variable: ClassVar[str]
    url_variable: ClassVar[str]
    url_path: ClassVar[str] = ""
    speak_path: ClassVar[str]
    listen_path: ClassVar[str]
    tts: ClassVar[str]
    stt: ClassVar[str]
    formats: ClassVar[Mapping[str, str]]
    """As it calls those that the application knows."""
    voice: ClassVar[str]
    voices: ClassVar[list[Voice]]
    listing: Answer | None = None
    """Of the voices, where it has to be asked."""
    unknown_voice: Answer | None = None
    """Where the application does not know it before."""
    transcript: Answer
    transcribed: Transcript
    failures: ClassVar[Mapping[str, tuple[Answer, str]]]

    def point_at(self, url: str, patch: pytest.MonkeyPatch) -> None:
        patch.setenv(self.key_variable, KEY)
        patch.setenv(self.url_variable, url + self.url_path)

    @abstractmethod
    def read(self, request: Request) -> Read: ...

    @abstractmethod
    def key(self, request: Request) -> str: ...
