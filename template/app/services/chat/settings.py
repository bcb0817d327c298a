from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ChatSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    ai_system_prompt: str = "You are a helpful assistant."
    title_model: str = ""
    message_max_characters: int = Field(default=32_000, ge=1, le=1_000_000)
    history_max_tokens: int = Field(default=8_000, ge=0, le=10_000_000)
    history_summary_model: str = ""
    concurrent_messages: Literal["queue", "reject"] = "queue"
    messages_per_minute: int = Field(default=60, ge=0, le=1_000_000)
    max_concurrent_replies: int = Field(default=20, ge=0, le=1_000_000)
