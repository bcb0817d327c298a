import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from app.core.concurrency import Renew
from app.core.errors import Invalid
from app.core.files import replacing
from app.core.text import storable
from app.schemas.speech import (
    AudioFormat,
    SegmentRead,
    SynthesisCreate,
    TranscriptionRead,
    VoiceRead,
    VoicesRead,
)
from app.services.processes.process_pool import TookTooLong
from app.services.speech.audio import Audio, BadAudio, NoSpeechFound, inspect
from app.services.speech.registry import SpeechProviders
from app.services.speech.settings import SpeechSettings
from app.services.speech.stt import STT, Segment, Transcript
from app.services.speech.tts import TTS, pieces, wav_header
from app.services.speech.usage import Job, SpeechMeter, synthesis_usage, transcription_usage

log = structlog.stdlib.get_logger("app.speech")


@dataclass(frozen=True, slots=True)
class SynthesizedAudio:
    """Streams audio as it is made; its first bytes are there already."""

    format: AudioFormat
    sample_rate: int
    audio: AsyncGenerator[bytes]


class SpeechService:
    """Reads aloud and transcribes for one user. No method holds a database connection while a provider works."""

    def __init__(self, settings: SpeechSettings, voices: SpeechProviders, meter: SpeechMeter, user_id: UUID) -> None:
        self._settings = settings
        self._voices = voices
        self._meter = meter
        self._user_id = user_id

    @asynccontextmanager
    async def synthesize(self, data: SynthesisCreate) -> AsyncGenerator[SynthesizedAudio]:
        """Reads the text aloud until the context is left.

        Raises Invalid, BudgetExhausted, TooManyAtOnce and SpeechFailure, the last also while the audio is read.
        """
        tts = self._voices.tts.get()
        format = data.format or _formats(tts)[0]
        self._check(tts, data, format)
        most = synthesis_usage(self._settings, tts.name, len(data.text))
        async with (
            self._meter.turn() as renew,
            self._meter.counted(most) as job,
            aclosing(self._read(tts, data, format, job, renew)) as audio,
        ):
            first = await anext(audio, b"")
            if not first:
                raise Invalid("This text has nothing that can be read aloud.")
            async with aclosing(_after(first, audio)) as whole:
                yield SynthesizedAudio(format, tts.sample_rate, whole)

    async def transcribe(self, file: BinaryIO, language: str | None = None) -> TranscriptionRead:
        """Transcribes an audio file. Raises BadAudio, Invalid, BudgetExhausted, TooManyAtOnce and SpeechFailure."""
        stt = self._voices.stt.get()
        async with self._meter.turn():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "audio")
                await asyncio.to_thread(_copy, file, path)
                return await self._understand(stt, path, language)

    async def _understand(self, stt: STT, path: Path, language: str | None) -> TranscriptionRead:
        try:
            audio = await self._voices.workers.do(inspect, path, self._settings.transcription_max_seconds)
        except (TookTooLong, MemoryError):
            raise BadAudio("The audio takes too much time or memory to decode; send a shorter file.") from None
        most = transcription_usage(self._settings, stt.name, audio.seconds)
        async with self._meter.counted(most) as job:
            found = await stt.transcribe(path, audio, language)
            job.used = most
        await self._keep(path, audio)
        return _transcription(found, audio)

    def _check(self, tts: TTS, data: SynthesisCreate, format: AudioFormat) -> None:
        most, (slowest, fastest) = self._settings.synthesis_max_characters, tts.speeds
        if most and len(data.text) > most:
            raise Invalid(f"A text has at most {most} characters.")
        if format not in _formats(tts):
            raise Invalid(f"The format {format} is not available; use {' or '.join(_formats(tts))}.")
        if not slowest <= data.speed <= fastest:
            raise Invalid(f"The speed must be between {slowest:g} and {fastest:g}.")

    async def _read(
        self, tts: TTS, data: SynthesisCreate, format: AudioFormat, job: Job, renew: Renew
    ) -> AsyncGenerator[bytes]:
        """Yields the audio of one piece of text after another; each is counted once its audio arrives."""
        made = AudioFormat.pcm if format is AudioFormat.wav else format
        begin, characters = wav_header(tts.sample_rate) if format is AudioFormat.wav else b"", 0
        for piece in pieces(data.text, tts.max_characters):
            await renew()
            characters += len(piece)
            async with aclosing(tts.speak(piece, data.voice, made, data.speed)) as chunks:
                async for chunk in chunks:
                    job.used = synthesis_usage(self._settings, tts.name, characters)
                    if chunk:
                        yield begin + chunk
                        begin = b""

    async def _keep(self, path: Path, audio: Audio) -> None:
        """Copies the file to `transcription_folder`, if that is set; a failure does not cost the transcript."""
        if self._settings.transcription_folder:
            folder = Path(self._settings.transcription_folder, str(self._user_id))
            try:
                await asyncio.to_thread(_put, path, folder / f"{uuid7()}.{audio.format}")
            except OSError as error:
                log.error("audio not kept", folder=str(folder), error=error.strerror)


async def read_voices(voices: SpeechProviders) -> VoicesRead:
    """Lists the voices and formats; the lists are empty if no provider is installed. Raises SpeechFailure."""
    tts = voices.tts.there
    if tts is None:
        return VoicesRead(voices=[], formats=[], slowest=1, fastest=1)
    known = [VoiceRead.model_validate(voice) for voice in await tts.voices()]
    slowest, fastest = tts.speeds
    return VoicesRead(voices=known, formats=_formats(tts), slowest=slowest, fastest=fastest)


def _formats(tts: TTS) -> list[AudioFormat]:
    """Lists the formats of a provider. Where it makes `pcm`, `wav` is made of that."""
    more = [AudioFormat.wav] if AudioFormat.pcm in tts.formats else []
    return list(dict.fromkeys([*tts.formats, *more]))


async def _after(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _copy(file: BinaryIO, path: Path) -> None:
    with path.open("wb") as copy:
        shutil.copyfileobj(file, copy)


def _put(path: Path, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with replacing(kept) as new:
        shutil.copyfile(path, new)


def _transcription(found: Transcript, audio: Audio) -> TranscriptionRead:
    """Converts a transcript for the response. Raises NoSpeechFound if it is empty."""
    text = storable(found.text).strip()
    if not text:
        raise NoSpeechFound("No speech was recognised in this audio.")
    segments = [SegmentRead.model_validate(_storable(segment)) for segment in found.segments or ()] or None
    return TranscriptionRead(text=text, language=found.language, duration=round(audio.seconds, 3), segments=segments)


def _storable(segment: Segment) -> Segment:
    return replace(segment, text=storable(segment.text).strip())
