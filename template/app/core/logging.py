"""Formats every log line alike, ours and the libraries': for people on a console, as JSON for machines."""

import logging
import sys
from io import StringIO
from typing import TextIO

import structlog
from opentelemetry import trace
from structlog.stdlib import ProcessorFormatter
from structlog.types import EventDict, ExcInfo, Processor

from app.core.config import Settings
from app.core.display import displayable

# These repeat at INFO what the access log says, or log at DEBUG the requests to providers and their addresses.
_CLIENTS = ("anthropic", "botocore", "google_genai", "groq", "openai")
_QUIET = ("uvicorn.access", "httpcore", "httpcore2", "httpx", "httpx2", "urllib3", *_CLIENTS)

# These messages of uvicorn quote the whole URL of a WebSocket, query included, or can be caused by any stranger.
_NO_NEWS = ('%s - "WebSocket', "Invalid UTF-8 sequence")


def _add_trace_id(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Adds the id of the current trace, if there is one."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
    return event


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    _add_trace_id,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logging(settings: Settings) -> None:
    """Takes over the root logger and uvicorn's; must be called once per process."""
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_SHARED, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ProcessorFormatter(processors=_rendering(settings), foreign_pre_chain=_SHARED))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # No line shows these, and finding them out costs as much as writing the line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_NO_NEWS)


def _rendering(settings: Settings) -> list[Processor]:
    remove = ProcessorFormatter.remove_processors_meta
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and settings.environment != "local")
    if as_json:
        return [remove, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # The default traceback would show local variables: passwords and tokens are among them.
    renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_write_traceback)
    return [remove, _clean, renderer]


def _clean(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Removes from texts, which may be a client's or a model's, what a terminal would obey."""
    return {name: displayable(value) if isinstance(value, str) else value for name, value in event.items()}


def _write_traceback(file: TextIO, error: ExcInfo) -> None:
    text = StringIO()
    structlog.dev.plain_traceback(text, error)
    file.write(displayable(text.getvalue()))
