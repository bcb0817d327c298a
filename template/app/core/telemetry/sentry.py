"""Sends log lines at ERROR and above to Sentry. It is imported only where SENTRY_DSN is set."""

import logging
import sys
from functools import partial
from typing import Any, cast

import sentry_sdk
from sentry_sdk.utils import event_from_exception

from app import __version__
from app.core.config import Settings
from app.core.telemetry.lifecycle import CLOSE_SECONDS, End

NOT_OURS = ("opentelemetry", "sentry_sdk", "urllib3")
"""Lists loggers that report failures to send, which must not be sent as well."""
TAGS = ("request_id", "user_id", "trace_id", "execution_id")


def report(settings: Settings, dsn: str) -> End:
    """Reports for the rest of the process. Returns the function that ends it."""
    sentry_sdk.init(
        dsn,
        environment=settings.environment,
        release=__version__,
        default_integrations=False,  # they read requests, model calls, statements and arguments
        auto_enabling_integrations=False,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
    )
    reporter = Reporter(logging.ERROR)
    logging.getLogger().addHandler(reporter)
    return partial(_end, reporter)


class Reporter(logging.Handler):
    """Reports what went wrong, where and for whom, but no error's text, which may quote a key or a person's words."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(NOT_OURS):
            return
        fields = _fields(record)
        event = _exception(fields.get("exc_info") or record.exc_info)
        event["level"], event["logger"] = record.levelname.lower(), record.name
        event["message"] = fields.get("event", "error in a library")
        event["tags"] = {name: fields[name] for name in TAGS if name in fields}
        sentry_sdk.capture_event(event)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Returns what was logged through structlog, and nothing of a line that a library formatted."""
    message: Any = record.msg
    return cast("dict[str, Any]", message) if isinstance(message, dict) else {}


def _exception(found: Any) -> Any:
    """Describes an error as Sentry expects it: by its type and its stack trace, without its text."""
    error = sys.exc_info() if found is True else found
    if not error or error == (None, None, None):
        return {}
    made: tuple[Any, Any] = event_from_exception(error, client_options=sentry_sdk.get_client().options)
    for value in made[0]["exception"]["values"]:
        value["value"] = ""
    return made[0]


def _end(reporter: Reporter) -> None:
    logging.getLogger().removeHandler(reporter)
    sentry_sdk.get_client().close(CLOSE_SECONDS)
