"""Reads aloud and transcribes with ElevenLabs, through its HTTP API."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.config import ApiKey, read_settings
from app.core.errors import AppError
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

TTS_MODEL, STT_MODEL = "eleven_multilingual_v2", "scribe_v2"
_FORMATS = {
    AudioFormat.mp3: "mp3_44100_128",
    AudioFormat.opus: "opus_48000_64",
    AudioFormat.pcm: "pcm_24000",
}


class ElevenLabsSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    elevenlabs_api_key: ApiKey | None = None
    elevenlabs_base_url: str = Field(default="https://api.elevenlabs.io", pattern=r"^https?://")


class ElevenLabsTTS:
    formats = tuple(_FORMATS)
    sample_rate = 24_000
    speeds = (0.7, 1.2)
    max_characters = 5_000

    def __init__(self, settings: SpeechSettings, client: httpx2.AsyncClient) -> None:
        self._model = read_settings(RemoteSpeechSettings).tts_model or TTS_MODEL
        self.name = f"elevenlabs:{self._model}"
        self._usual = settings.tts_voice
        self._client = client

    async def voices(self) -> Sequence[Voice]:
        """Lists the voices of the account, at most a hundred."""
        try:
            answer = await self._client.get("/v2/voices", params={"page_size": 100})
            await _check(answer)
            return [Voice(voice["voice_id"], voice["name"]) for voice in answer.json()["voices"]]
        # Broad, since a client may raise anything when a provider sends something unexpected.
        except Exception as error:
            raise log_failure(self.name, error, _failure(error)) from None

    async def speak(self, text: str, voice: str | None, format: AudioFormat, speed: float) -> AsyncGenerator[bytes]:
        voice = voice or await self._usual_voice()
        path = f"/v1/text-to-speech/{quote(voice, safe='')}/stream"
        body = {"text": text, "model_id": self._model, "voice_settings": {"speed": speed}}
        asked = self._client.stream("POST", path, params={"output_format": _FORMATS[format]}, json=body)
        try:
            async with asked as answer:
                await _check(answer, voice)
                async for chunk in answer.aiter_bytes():
                    yield chunk
        # Broad, since a client may raise anything when a provider sends something unexpected.
        except Exception as error:
            raise log_failure(self.name, error, _failure(error)) from None

    async def _usual_voice(self) -> str:
        """Returns the voice that TTS_VOICE names, or else the first of the account."""
        if self._usual is None:
            voices = await self.voices()
            if not voices:
                raise SpeechFailure
            self._usual = voices[0].id
        return self._usual


class ElevenLabsSTT:
    def __init__(self, settings: SpeechSettings, client: httpx2.AsyncClient) -> None:
        self._model = read_settings(RemoteSpeechSettings).stt_model or STT_MODEL
        self.name = f"elevenlabs:{self._model}"
        self._client = client

    async def transcribe(self, path: Path, audio: Audio, language: str | None) -> Transcript:
        form = {"model_id": self._model, "tag_audio_events": "false"}
        if language:
            form["language_code"] = language
        with await asyncio.to_thread(path.open, "rb") as file:
            try:
                files = {"file": (f"audio.{audio.format}", file)}
                answer = await self._client.post("/v1/speech-to-text", data=form, files=files)
                await _check(answer)
                return _transcript(answer.json())
            # Broad, since a client may raise anything when a provider sends something unexpected.
            except Exception as error:
                raise log_failure(self.name, error, _failure(error)) from None


def _client(setting: str) -> httpx2.AsyncClient:
    own = read_settings(ElevenLabsSettings)
    return httpx2.AsyncClient(
        base_url=own.elevenlabs_base_url,
        headers={"xi-api-key": required_key(setting, "elevenlabs", own.elevenlabs_api_key)},
        timeout=read_settings(RemoteSpeechSettings).speech_timeout,
    )


open_tts = opener("TTS_PROVIDER", _client, ElevenLabsTTS)
open_stt = opener("STT_PROVIDER", _client, ElevenLabsSTT)


async def _check(answer: httpx2.Response, voice: str = "") -> None:
    """Raises the failure that an unsuccessful response stands for."""
    if answer.is_success:
        return
    match _reason(await answer.aread()):
        case "voice_not_found":
            raise NoSuchVoice(voice)
        case "quota_exceeded":
            raise SpeechQuota
        case _:
            raise failure_of_status(answer.status_code, answer.headers)


def _reason(body: bytes) -> str:
    try:
        detail: Mapping[str, str] = json.loads(body)["detail"]
        return detail.get("code") or detail["status"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""


def _transcript(found: Mapping[str, Any]) -> Transcript:
    words = [word for word in found.get("words") or () if "start" in word and "end" in word]
    return Transcript(found["text"].strip(), found.get("language_code"), list(_sentences(words)) or None)


def _sentences(words: Iterable[Mapping[str, Any]]) -> Iterator[Segment]:
    sentence: list[Mapping[str, Any]] = []
    for word in words:
        sentence.append(word)
        if word["text"].endswith((".", "!", "?", "\u3002")):
            yield _segment(sentence)
            sentence = []
    if sentence:
        yield _segment(sentence)


def _segment(words: Sequence[Mapping[str, Any]]) -> Segment:
    text = "".join(word["text"] for word in words).strip()
    return Segment(words[0]["start"], words[-1]["end"], text)


def _failure(error: Exception) -> AppError:
    match error:
        case AppError():
            return error
        case httpx2.TimeoutException():
            return SpeechTimeout()
        case httpx2.HTTPError():
            return SpeechDisconnected()
        case _:
            return SpeechFailure()
