from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.errors import SetupError
from app.services.processes.process_pool import ProcessPool
from app.services.speech.settings import SpeechSettings

C = TypeVar("C")
P = TypeVar("P")


class RemoteSpeechSettings(BaseSettings):
    """Configures the providers on the network."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    tts_model: str | None = None
    stt_model: str | None = None
    speech_timeout: float = Field(default=60, gt=0, le=3_600)


def opener(
    setting: str, open_client: Callable[[str], AbstractAsyncContextManager[C]], make: Callable[[SpeechSettings, C], P]
) -> Callable[[SpeechSettings, ProcessPool], AbstractAsyncContextManager[P]]:
    """Returns a provider's `open_tts` or `open_stt`, which opens its client first. Raises SetupError without a key."""

    @asynccontextmanager
    async def open_provider(settings: SpeechSettings, workers: ProcessPool) -> AsyncGenerator[P]:
        async with open_client(setting) as client:
            yield make(settings, client)

    return open_provider


def required_key(setting: str, provider: str, key: SecretStr | None) -> str:
    """Returns the API key of a provider. Raises SetupError without one."""
    if key is None:
        name = f"{provider.upper()}_API_KEY"
        raise SetupError(f"{setting}={provider} cannot be used: set {name} in .env or in the environment.")
    return key.get_secret_value()
