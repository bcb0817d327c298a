"""Reads aloud and transcribes with OpenAI, through its own client."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import openai

from app.core.config import read_provider_settings, read_settings
from app.schemas.speech import AudioFormat
from app.services.speech.audio import Audio
from app.services.speech.errors import (
    SpeechDisconnected,
    SpeechFailure,
    SpeechQuota,
    SpeechTimeout,
    failure_of_status,
    log_failure,
)
from app.services.speech.remote_settings import RemoteSpeechSettings, opener, required_key
from app.services.speech.settings import SpeechSettings
from app.services.speech.stt import Segment, Transcript
from app.services.speech.tts import NoSuchVoice, Voice

TTS_MODEL, STT_MODEL = "gpt-4o-mini-tts", "gpt-transcribe"
WITH_SEGMENTS = {"whisper-1"}
"""Lists the models that return segments with their times."""
VOICES = (
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable"),
    *("marin", "nova", "onyx", "sage", "shimmer", "verse"),
)
OWN_VOICE = "voice_"
"""Begins the ids of custom voices, which the API does not list."""


class OpenAITTS:
    formats = (AudioFormat.mp3, AudioFormat.opus, AudioFormat.pcm)
    sample_rate = 24_000
    speeds = (0.25, 4.0)
    max_characters = 4_096

    def __init__(self, settings: SpeechSettings, client: openai.AsyncOpenAI) -> None:
        self._model = read_settings(RemoteSpeechSettings).tts_model or TTS_MODEL
        self.name = f"openai:{self._model}"
        self._usual = settings.tts_voice or VOICES[0]
        self._client = client

    async def voices(self) -> Sequence[Voice]:
        return [Voice(name, name.capitalize()) for name in VOICES]

    async def speak(self, text: str, voice: str | None, format: AudioFormat, speed: float) -> AsyncGenerator[bytes]:
        voice = voice or self._usual
        own = voice.startswith(OWN_VOICE)
        if voice not in VOICES and not own:
            raise NoSuchVoice(voice)
        asked: dict[str, Any] = {"model": self._model, "input": text, "response_format": format.value, "speed": speed}
        try:
            async with self._client.audio.speech.with_streaming_response.create(
                **asked, voice={"id": voice} if own else voice
            ) as answer:
                async for chunk in answer.iter_bytes():
                    yield chunk
        # Broad, since a client may raise anything when a provider sends something unexpected.
        except Exception as error:
            raise log_failure(self.name, error, _failure(error)) from None


class OpenAISTT:
    def __init__(self, settings: SpeechSettings, client: openai.AsyncOpenAI) -> None:
        self._model = read_settings(RemoteSpeechSettings).stt_model or STT_MODEL
        self.name = f"openai:{self._model}"
        self._format = "verbose_json" if self._model in WITH_SEGMENTS else "json"
        self._client = client

    async def transcribe(self, path: Path, audio: Audio, language: str | None) -> Transcript:
        asked: dict[str, Any] = {"model": self._model, "response_format": self._format}
        if language:
            asked["language"] = language
        with await asyncio.to_thread(path.open, "rb") as file:
            try:
                asked["file"] = f"audio.{audio.format}", file
                create: Any = self._client.audio.transcriptions.create  # Any, since its types are only partly known
                found = await create(**asked)
                return _transcript(found.model_dump())
            # Broad, since a client may raise anything when a provider sends something unexpected.
            except Exception as error:
                raise log_failure(self.name, error, _failure(error)) from None


def _client(setting: str) -> openai.AsyncOpenAI:
    own = read_provider_settings("openai")
    return openai.AsyncOpenAI(
        api_key=required_key(setting, "openai", own.api_key),
        base_url=own.base_url,
        timeout=read_settings(RemoteSpeechSettings).speech_timeout,
        max_retries=0,
    )


open_tts = opener("TTS_PROVIDER", _client, OpenAITTS)
open_stt = opener("STT_PROVIDER", _client, OpenAISTT)


def _transcript(found: Mapping[str, Any]) -> Transcript:
    segments = found.get("segments")
    return Transcript(
        found["text"],
        found.get("language"),
        segments and [Segment(part["start"], part["end"], part["text"].strip()) for part in segments],
    )


def _failure(error: Exception) -> SpeechFailure:
    match error:
        case openai.APITimeoutError() | httpx2.TimeoutException():
            return SpeechTimeout()
        case openai.APIStatusError(code="insufficient_quota"):
            return SpeechQuota()
        case openai.APIStatusError():
            return failure_of_status(error.status_code, error.response.headers)
        case openai.APIConnectionError() | httpx2.HTTPError():
            return SpeechDisconnected()
        case _:
            return SpeechFailure()
