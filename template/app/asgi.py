"""Offers `app.asgi:app` to servers. It is the only module that reads settings at import."""

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
    """Returns the application for `dev`, which logs a migration that is not applied and goes on."""
    app.state.is_developed = True
    return app


# What has been imported stays, and requests leave few reference cycles: collecting them as often as Python does by
# default takes an eighth of a busy server's time.
gc.freeze()
gc.set_threshold(5_000, 20, 100)
