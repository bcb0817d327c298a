from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class RemoteSpeechSettings(BaseSettings):
    """Configures the providers on the network."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    tts_model: str | None = None
    stt_model: str | None = None
    speech_timeout: float = Field(default=60, gt=0, le=3_600)
