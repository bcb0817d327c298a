"""What servers import: `app.asgi:app`. The one place that reads settings at import."""

import sys

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
app = create_app(settings)
