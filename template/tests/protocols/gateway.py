"""Runs the application's own gateway to models against the server, and tells what came of it."""

import io
import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from app.core.config import Settings
from app.core.logging import configure_logging
from app.services.ai import AI, Line, ModelFailure
from app.services.ai_model import open_ai
from tests.protocols.dialect import SECRET, Dialect
from tests.protocols.server import Server, serve

LINES = [
    Line("user", f"Do you know {SECRET}?"),
    Line("assistant", f"Yes, {SECRET} is a password."),
    Line("user", f"Is {SECRET} a good one?"),
]


def every_failure_of(*dialects: Dialect) -> pytest.MarkDecorator:
    """Runs a test with each `dialect` and each `failure` that it knows."""
    cases = {
        f"{dialect.model}-{name}": (dialect, failure)
        for dialect in dialects
        for name, failure in dialect.failures().items()
    }
    return pytest.mark.parametrize(("dialect", "failure"), cases.values(), ids=cases.keys())


@dataclass(frozen=True)
class Heard:
    text: str
    failure: ModelFailure | None = None

    @property
    def code(self) -> str | None:
        return self.failure and self.failure.code


async def ask(ai: AI) -> Heard:
    text = ""
    try:
        async for piece in ai.stream(LINES):
            text += piece
    except ModelFailure as failure:
        return Heard(text, failure)
    return Heard(text)


def settings_for(model: str, **values: Any) -> Settings:
    """Without retries, unless told otherwise."""
    return Settings(**{"secret_key": "x" * 32, "ai_model": model, "ai_max_retries": 0, **values})


@asynccontextmanager
async def connect(server: Server, dialect: Dialect, model: str | None = None, **settings: Any) -> AsyncGenerator[AI]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in dialect.environment(server.url).items():
            patch.setenv(name, value)
        async with open_ai(settings_for(model or dialect.model, **settings)) as ai:
            yield ai


@asynccontextmanager
async def gateway(dialect: Dialect, model: str | None = None, **settings: Any) -> AsyncGenerator[tuple[AI, Server]]:
    async with serve() as server, connect(server, dialect, model, **settings) as ai:
        yield ai, server


@contextmanager
def everything_logged() -> Generator[io.StringIO]:
    """What a deployment at its most talkative writes, by every library."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    configure_logging(settings_for("demo", log_level="DEBUG", log_format="json"))
    # Loggers that were cached would outlive the test.
    structlog.configure(cache_logger_on_first_use=False)
    written = io.StringIO()
    for handler in root.handlers:
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(written)
    try:
        yield written
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**before)
