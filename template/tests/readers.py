"""Provides scripted engines for speech synthesis and transcription that keep the requests they receive."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from fastapi import FastAPI

from app.core.errors import AppError
from app.schemas.speech import AudioFormat
from app.services.speech.audio import Audio
from app.services.speech.registry import OptionalProvider, SpeechProviders
from app.services.speech.stt import Transcript
from app.services.speech.tts import Voice


class Reader:
    name = "acme:reader"
    formats = (AudioFormat.mp3, AudioFormat.pcm)
    sample_rate = 8_000
    speeds = (0.5, 2.0)
    max_characters = 10

    def __init__(self, *chunks: bytes | asyncio.Event | AppError) -> None:
        self.chunks = chunks
        """Lists the chunks of each piece of text; an event is waited for, and an error is raised."""
        self.asked: list[tuple[str, str | None, AudioFormat, float]] = []

    async def voices(self) -> Sequence[Voice]:
        return [Voice("one", "One")]

    async def speak(self, text: str, voice: str | None, format: AudioFormat, speed: float) -> AsyncGenerator[bytes]:
        self.asked.append((text, voice, format, speed))
        for chunk in self.chunks:
            if isinstance(chunk, AppError):
                raise chunk
            if isinstance(chunk, asyncio.Event):
                await chunk.wait()
            else:
                yield chunk


class Listener:
    name = "acme:listener"

    def __init__(self, found: Transcript | AppError) -> None:
        self.found = found
        self.asked: list[tuple[bytes, Audio, str | None]] = []

    async def transcribe(self, path: Path, audio: Audio, language: str | None) -> Transcript:
        self.asked.append((await asyncio.to_thread(path.read_bytes), audio, language))
        if isinstance(self.found, AppError):
            raise self.found
        return self.found


def use(app: FastAPI, *, reader: Reader | None = None, listener: Listener | None = None) -> None:
    was: SpeechProviders = app.state.speech_providers
    app.state.speech_providers = SpeechProviders(
        OptionalProvider(reader) if reader else was.tts,
        OptionalProvider(listener) if listener else was.stt,
        was.workers,
    )
