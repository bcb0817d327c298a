"""Opens the models that the settings name."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from app.core.config import Settings
from app.core.errors import SetupError
from app.core.telemetry.settings import TelemetrySettings
from app.services.ai.base import Model, full_name
from app.services.ai.demo import DEMO, DemoModel
from app.services.ai.fallback import FallbackGateway


@asynccontextmanager
async def open_gateway(
    settings: Settings, telemetry: TelemetrySettings | None = None, *, place: str = "AI_MODEL"
) -> AsyncGenerator[FallbackGateway]:
    """Opens one client of each provider for everyone. Raises SetupError when a model cannot be used.

    `place` is the setting that names the first model.
    """
    fallbacks = list(map(full_name, settings.ai_fallback_models))
    allowed = list(map(full_name, settings.ai_allowed_models)) or fallbacks
    models = list(dict.fromkeys([full_name(settings.ai_model), *allowed]))
    async with AsyncExitStack() as stack:
        opened: dict[str, Model] = {DEMO: DemoModel(settings.demo_model_delay)}
        if wanted := {name: where for name, where in _named(settings, place).items() if name != DEMO}:
            # Imported here because it takes a second and 50 MB, which the demo and most commands spare.
            from app.services.ai.provider import open_models

            opened |= await stack.enter_async_context(open_models(wanted, settings, telemetry))
        yield FallbackGateway(opened, models, fallbacks, settings.ai_timeout, settings.ai_max_retries)


async def find_unusable(settings: Settings, *, place: str = "AI_MODEL") -> dict[str, list[str]]:
    """Returns by setting the sentences with which a start would fail, one for each unusable model that it names."""
    found: dict[str, list[str]] = {}
    for setting, names in _places(settings, place).items():
        for name in names:
            if full_name(name) != DEMO and (sentence := await _objection(setting, name, settings)):
                found.setdefault(setting, []).append(sentence)
    return found


async def _objection(place: str, name: str, settings: Settings) -> str:
    """Returns why the model cannot be used; an empty text if it can."""
    from app.services.ai.provider import open_models

    try:
        async with open_models({full_name(name): f"{place}={name}"}, settings):
            return ""
    except SetupError as error:
        return str(error)


def _named(settings: Settings, first: str) -> Mapping[str, str]:
    """Returns every model with the setting that names it; of several settings, the last."""
    return {full_name(name): f"{place}={name}" for place, names in _places(settings, first).items() for name in names}


def _places(settings: Settings, first: str) -> Mapping[str, list[str]]:
    return {
        "AI_FALLBACK_MODELS": settings.ai_fallback_models,
        "AI_ALLOWED_MODELS": settings.ai_allowed_models,
        first: [settings.ai_model],
    }
