"""Who speaks and who listens: those that the settings name."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

from app.core.errors import SetupError
from app.services.speech_failures import SpeechNotInstalled
from app.services.speech_settings import SpeechSettings
from app.services.stt import STT
from app.services.tts import TTS
from app.services.workers import Workers, open_workers

S = TypeVar("S")
PACKAGE = f"{__package__}.speech_providers"
FOLDER = Path(__file__).parent / "speech_providers"


@dataclass(frozen=True, slots=True)
class Maybe(Generic[S]):
    """Somebody, or why there is nobody."""

    there: S | None
    missing: str = ""

    def get(self) -> S:
        """Raises SpeechNotInstalled."""
        if self.there is None:
            raise SpeechNotInstalled(self.missing)
        return self.there


@dataclass(frozen=True, slots=True)
class Voices:
    """What every request shares."""

    tts: Maybe[TTS]
    stt: Maybe[STT]
    workers: Workers


@asynccontextmanager
async def open_voices(settings: SpeechSettings) -> AsyncGenerator[Voices]:
    """Raises SetupError when a provider that is named cannot be used; without one, it may be that nobody is there."""
    async with AsyncExitStack() as stack:
        # Whoever is read to does not wait for those who are listened to, which takes longer by far.
        speaking = await stack.enter_async_context(open_workers(settings.speech_processes))
        hearing = await stack.enter_async_context(open_workers(settings.speech_processes))

        async def opened(setting: str, provider: str, opener: str, workers: Workers) -> Maybe[Any]:
            open_it: Callable[..., AbstractAsyncContextManager[Any]] | None
            open_it = getattr(_module(setting, provider), opener, None)
            if open_it is None:
                raise SetupError(f"{setting}={provider} cannot be used: its module has no {opener}.")
            try:
                return Maybe(await stack.enter_async_context(open_it(settings, workers)))
            except SpeechNotInstalled as error:
                return Maybe(None, str(error))

        yield Voices(
            await opened("TTS_PROVIDER", settings.tts_provider, "open_tts", speaking),
            await opened("STT_PROVIDER", settings.stt_provider, "open_stt", hearing),
            hearing,
        )


def _module(setting: str, provider: str) -> Any:
    """Imported when it is named, since a provider's client takes time and memory."""
    known = sorted(module.name for module in iter_modules([str(FOLDER)]))
    if provider not in known:
        raise SetupError(f"{setting}={provider} cannot be used: name one of {', '.join(known)}.")
    return import_module(f"{PACKAGE}.{provider}")
