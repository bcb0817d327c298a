from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse

from app.api.deps import CurrentUser, SpendingUser
from app.api.errors import problem_responses
from app.api.upload import CEILING, Upload, upload_body, upload_of
from app.core.concurrency import ConcurrencyLimit
from app.core.config import read_settings
from app.schemas.speech import AudioFormat, SynthesisCreate, TranscriptionCreate, TranscriptionRead, VoicesRead
from app.services.speech.registry import SpeechProviders, open_providers
from app.services.speech.service import SpeechService, SynthesizedAudio, read_voices
from app.services.speech.settings import SpeechSettings
from app.services.speech.usage import SpeechMeter, daily_budgets

log = structlog.stdlib.get_logger("app.speech")

MEDIA_TYPES = {AudioFormat.mp3: "audio/mpeg", AudioFormat.opus: "audio/ogg", AudioFormat.wav: "audio/wav"}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
AUDIO: dict[int | str, dict[str, Any]] = {
    200: {"description": "Audio", "content": dict.fromkeys([*MEDIA_TYPES.values(), "audio/pcm"], _BINARY)}
}
"""Describes the answer of a route that sends audio, for its `responses=`."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    state = app.state
    state.speech_settings = settings = read_settings(SpeechSettings)
    state.upload_max_bytes = settings.transcription_max_bytes
    state.budgets.add(*daily_budgets(settings))
    prefix = state.settings.redis_prefix
    state.speech_slots = ConcurrencyLimit(state.redis, f"{prefix}:speech", settings.max_concurrent_speech)
    async with open_providers(settings) as state.speech_providers:
        _announce(state.features, state.limits, state.speech_providers, settings)
        yield


router = APIRouter(prefix="/speech", tags=["speech"], lifespan=lifespan)


async def speech_service(request: Request, user: SpendingUser) -> SpeechService:
    state = request.app.state
    meter = SpeechMeter(state.database, state.budgets, state.speech_slots, user.id)
    return SpeechService(state.speech_settings, state.speech_providers, meter, user.id)


Speech = Annotated[SpeechService, Depends(speech_service)]


async def synthesis(data: SynthesisCreate, speech: Speech) -> AsyncGenerator[SynthesizedAudio]:
    """Yields audio that stays open until the response ends. An error before its first bytes is a problem document."""
    async with speech.synthesize(data) as spoken:
        yield spoken


def audio_response(spoken: SynthesizedAudio) -> StreamingResponse:
    media_type = MEDIA_TYPES.get(spoken.format, f"audio/pcm;rate={spoken.sample_rate}")
    headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
    return StreamingResponse(spoken.audio, media_type=media_type, headers=headers)


@router.get("/voices")
async def list_voices(request: Request, _: CurrentUser) -> VoicesRead:
    """Lists voices and formats, and how fast they may speak. Both lists are empty without a provider of speech."""
    return await read_voices(request.app.state.speech_providers)


@router.post("/synthesize", response_class=StreamingResponse, responses=AUDIO | problem_responses(402))
async def synthesize(spoken: Annotated[SynthesizedAudio, Depends(synthesis)]) -> StreamingResponse:
    """Reads a text aloud and streams the audio as it is made. If the rest cannot be made, the connection is closed."""
    return audio_response(spoken)


@router.post(
    "/transcribe",
    max_body_size=CEILING,
    openapi_extra=upload_body(TranscriptionCreate),
    responses=problem_responses(402),
)
async def transcribe(
    upload: Annotated[Upload[TranscriptionCreate], Depends(upload_of(TranscriptionCreate))], speech: Speech
) -> TranscriptionRead:
    """Transcribes an audio file: wav, mp3, m4a, webm, ogg or flac, recognised by its content and not by its name."""
    return await speech.transcribe(upload.file, upload.data.language)


def _announce(features: list[str], limits: dict[str, int], voices: SpeechProviders, settings: SpeechSettings) -> None:
    """Tells clients which speech features there are; only the log tells the operator which are not installed."""
    if voices.tts.there or voices.stt.there:
        features.append("speech")
    if voices.tts.there:
        limits["synthesis_characters"] = settings.synthesis_max_characters
    if voices.stt.there:
        limits["transcription_bytes"] = settings.transcription_max_bytes
        limits["transcription_seconds"] = settings.transcription_max_seconds
    if advice := " ".join(maybe.advice for maybe in (voices.tts, voices.stt) if not maybe.there):
        log.info("speech is not installed", advice=advice)
