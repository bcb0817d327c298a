"""Describes what the speech protocols of all providers have in common."""

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
"""Marks what no log may repeat, as the key must not be either."""


@dataclass(frozen=True)
class Read:
    """Describes a synthesis request in terms that are common to all providers."""

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
    """Maps each format that the application knows to the provider's name of it."""
    voice: ClassVar[str]
    voices: ClassVar[list[Voice]]
    listing: Answer | None = None
    """Lists the voices, where the provider must be asked for them."""
    unknown_voice: Answer | None = None
    """Answers a request with an unknown voice, where the application cannot check it itself."""
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
