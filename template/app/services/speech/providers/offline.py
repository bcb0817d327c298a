"""Reads aloud with espeak-ng and transcribes English with pocketsphinx, without a key and offline."""

import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from app.core.errors import Invalid
from app.schemas.speech import AudioFormat
from app.services.processes.process_pool import ProcessPool
from app.services.speech.audio import SAMPLE_RATE, Audio, decode
from app.services.speech.engines import espeak, pocketsphinx
from app.services.speech.errors import SpeechNotInstalled
from app.services.speech.settings import SpeechSettings
from app.services.speech.stt import STT, Segment, Transcript
from app.services.speech.tts import TTS, NoSuchVoice, Voice

USUAL_VOICE = "en-us"
CHUNK_BYTES = 32_768
"""Limits a chunk, so that audio that waits for a slow reader is not copied whole."""


class OfflineTTS:
    name = "offline:espeak-ng"
    formats = (AudioFormat.wav, AudioFormat.pcm)
    sample_rate = 22_050
    speeds = (0.55, 2.5)
    max_characters = 150
    """Keeps pieces short: the first words come soon, a worker is busy briefly, little waits for a slow reader."""

    def __init__(self, settings: SpeechSettings, workers: ProcessPool) -> None:
        self._usual = settings.tts_voice or USUAL_VOICE
        self._workers = workers
        self._voices: Sequence[Voice] = []

    async def voices(self) -> Sequence[Voice]:
        self._voices = self._voices or await self._workers.do(espeak.voices)
        return self._voices

    async def speak(self, text: str, voice: str | None, format: AudioFormat, speed: float) -> AsyncGenerator[bytes]:
        voice = voice or self._usual
        if voice not in {known.id for known in await self.voices()}:
            raise NoSuchVoice(voice)
        audio = await self._workers.do(espeak.speak, text, voice, speed)
        for start in range(0, len(audio), CHUNK_BYTES):
            yield audio[start : start + CHUNK_BYTES]


class OfflineSTT:
    name = "offline:pocketsphinx"

    def __init__(self, workers: ProcessPool) -> None:
        self._workers = workers

    async def transcribe(self, path: Path, audio: Audio, language: str | None) -> Transcript:
        if language not in {None, "en"}:
            raise Invalid("This service understands English only.")
        with tempfile.TemporaryDirectory() as folder:
            samples = Path(folder, "samples")
            await self._workers.do(decode, path, audio.format, samples)
            segments = [segment async for segment in self._heard(samples) if segment.text]
        return Transcript(" ".join(segment.text for segment in segments), "en", segments)

    async def _heard(self, samples: Path) -> AsyncGenerator[Segment]:
        start, end = -1, 0
        while start < end:
            start = end
            text, end = await self._workers.do(pocketsphinx.hear, samples, start)
            yield Segment(start / SAMPLE_RATE, end / SAMPLE_RATE, text)


@asynccontextmanager
async def open_tts(settings: SpeechSettings, workers: ProcessPool) -> AsyncGenerator[TTS]:
    """Opens the provider. Raises SpeechNotInstalled."""
    if find_spec("espeakng_loader") is None:
        raise SpeechNotInstalled("This service cannot read aloud.", _advice("Text to speech", "TTS_PROVIDER"))
    yield OfflineTTS(settings, workers)


@asynccontextmanager
async def open_stt(settings: SpeechSettings, workers: ProcessPool) -> AsyncGenerator[STT]:
    """Opens the provider. Raises SpeechNotInstalled."""
    if find_spec("pocketsphinx") is None:
        raise SpeechNotInstalled("This service cannot understand speech.", _advice("Speech to text", "STT_PROVIDER"))
    yield OfflineSTT(workers)


def _advice(lack: str, setting: str) -> str:
    return f"{lack} is not installed: run `uv sync --extra speech-offline`, or name a provider in {setting}."
