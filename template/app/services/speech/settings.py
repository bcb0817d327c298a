from decimal import Decimal
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Price = Annotated[Decimal, Field(ge=0, le=1_000_000)] | None


class SpeechSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    tts_provider: str = "offline"
    tts_voice: str | None = None
    tts_dollars_per_million_characters: Price = None
    stt_provider: str = "offline"
    stt_dollars_per_hour: Price = None

    synthesis_max_characters: int = Field(default=20_000, ge=0, le=10_000_000)
    transcription_max_bytes: int = Field(default=20_971_520, ge=0, le=1_073_741_824)
    transcription_max_seconds: int = Field(default=600, ge=0, le=86_400)
    transcription_folder: str | None = None
    speech_characters_per_day: int = Field(default=0, ge=0, le=1_000_000_000_000)
    speech_seconds_per_day: int = Field(default=0, ge=0, le=1_000_000_000_000)
    max_concurrent_speech: int = Field(default=4, ge=0, le=1_000_000)
    speech_processes: int = Field(default=2, ge=1, le=64)
