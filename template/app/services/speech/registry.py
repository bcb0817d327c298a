"""Opens the providers of text to speech and speech to text that the settings name."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

from app.core.config import read_settings
from app.core.errors import SetupError
from app.core.findings import Off, Problem
from app.services.processes.process_pool import ProcessPool, open_process_pool
from app.services.speech.errors import SpeechNotInstalled
from app.services.speech.settings import SpeechSettings
from app.services.speech.stt import STT
from app.services.speech.tts import TTS

S = TypeVar("S")
PACKAGE = f"{__package__}.providers"
FOLDER = Path(__file__).parent / "providers"


@dataclass(frozen=True, slots=True)
class OptionalProvider(Generic[S]):
    """Holds a provider, or why there is none: `missing` is for clients, `advice` tells the operator what to do."""

    there: S | None
    missing: str = ""
    advice: str = ""

    def get(self) -> S:
        """Returns the provider. Raises SpeechNotInstalled."""
        if self.there is None:
            raise SpeechNotInstalled(self.missing)
        return self.there


@dataclass(frozen=True, slots=True)
class SpeechProviders:
    """Holds the providers, and the worker processes for uploaded audio, which all requests share."""

    tts: OptionalProvider[TTS]
    stt: OptionalProvider[STT]
    workers: ProcessPool


@asynccontextmanager
async def open_providers(settings: SpeechSettings) -> AsyncGenerator[SpeechProviders]:
    """Opens both providers. Raises SetupError if one cannot be used; one that is not installed is no error."""
    async with (
        # Each has workers of its own: reading aloud must not wait for transcription, which takes longer by far.
        open_process_pool(settings.speech_processes) as speaking,
        open_process_pool(settings.speech_processes) as hearing,
        _opened(_tts(settings), settings, speaking) as tts,
        _opened(_stt(settings), settings, hearing) as stt,
    ):
        yield SpeechProviders(tts, stt, hearing)


async def diagnostics() -> list[str]:
    """Returns what the `doctor` command says about the two providers. No process is started for it."""
    settings = read_settings(SpeechSettings)
    return [await _found(place, settings) for place in (_tts(settings), _stt(settings))]


async def _found(place: "_Place", settings: SpeechSettings) -> str:
    try:
        async with _opened(place, settings, ProcessPool(settings.speech_processes)) as somebody:
            return f"{place.setting} is {somebody.there.name}" if somebody.there else Off(somebody.advice)
    except SetupError as error:
        return Problem(str(error))


@dataclass(frozen=True, slots=True)
class _Place:
    """Names a setting, its value (a provider), and the function of the provider's module that opens it."""

    setting: str
    provider: str
    opener: str


def _tts(settings: SpeechSettings) -> _Place:
    return _Place("TTS_PROVIDER", settings.tts_provider, "open_tts")


def _stt(settings: SpeechSettings) -> _Place:
    return _Place("STT_PROVIDER", settings.stt_provider, "open_stt")


@asynccontextmanager
async def _opened(
    place: _Place, settings: SpeechSettings, workers: ProcessPool
) -> AsyncGenerator[OptionalProvider[Any]]:
    """Opens a provider, if it is installed. Raises SetupError."""
    open_it: Callable[..., AbstractAsyncContextManager[Any]] | None
    open_it = getattr(_module(place.setting, place.provider), place.opener, None)
    if open_it is None:
        raise SetupError(f"{place.setting}={place.provider} cannot be used: its module has no {place.opener}.")
    async with AsyncExitStack() as stack:
        somebody: OptionalProvider[Any]
        try:
            somebody = OptionalProvider(await stack.enter_async_context(open_it(settings, workers)))
        except SpeechNotInstalled as error:
            somebody = OptionalProvider(None, str(error), error.advice or str(error))
        yield somebody


def _module(setting: str, provider: str) -> Any:
    """Imports a provider's module, only when it is named: its client takes time and memory. Raises SetupError."""
    known = sorted(module.name for module in iter_modules([str(FOLDER)]))
    if provider not in known:
        raise SetupError(f"{setting}={provider} cannot be used: name one of {', '.join(known)}.")
    return import_module(f"{PACKAGE}.{provider}")
