"""What servers import: `app.asgi:app`. The one place that reads settings at import."""

import gc
import sys

from fastapi import FastAPI

from app.core.config import Settings, load_environment, read_settings
from app.core.errors import SetupError
from app.core.logging import configure_logging
from app.main import create_app

try:
    load_environment()
    settings = read_settings(Settings)
except SetupError as error:
    sys.exit(str(error))
configure_logging(settings)
app = create_app(settings, is_server=True)


def developed() -> FastAPI:
    """Returns what `dev` serves: a migration that was just written is said, and does not end it."""
    app.state.is_developed = True
    return app


# What has been imported stays, and requests leave little that only the collector could free: looking for it as often as
# Python does by itself takes an eighth of a busy server's time.
gc.freeze()
gc.set_threshold(5_000, 20, 100)
