"""The model that AI_MODEL names."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from app.core.config import Settings
from app.services.ai import AI
from app.services.demo import DemoAI


@asynccontextmanager
async def open_ai(settings: Settings) -> AsyncGenerator[AI]:
    """One client for everyone. Raises SetupError when the model cannot be used."""
    if settings.ai_model == "demo":
        yield DemoAI(settings.demo_model_delay)
    else:
        # Imported here because it takes a second and 50 MB, which the demo and most commands spare.
        from app.services.providers import open_model

        async with open_model(settings) as model:
            yield model
