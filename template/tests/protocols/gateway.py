"""Runs the application's own gateway to models against the server, and tells what came of it."""

import io
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from app.core.config import Settings
from app.core.logging import configure_logging
from app.services.ai import AI, Line, ModelFailure, Spent
from app.services.ai_chain import AIChain
from app.services.ai_model import open_ai
from tests.protocols.dialect import SECRET, Dialect
from tests.protocols.server import Server, serve

Connect = Callable[[Dialect], Awaitable[tuple[AIChain, Server]]]

LINES = [
    Line("user", f"Do you know {SECRET}?"),
    Line("assistant", f"Yes, {SECRET} is a password."),
    Line("user", f"Is {SECRET} a good one?"),
]


@dataclass(frozen=True)
class Heard:
    text: str
    spent: Spent
    code: str | None = None
    sentence: str = ""
    """Of a failure."""


async def ask(ai: AI, model: str | None = None) -> Heard:
    text = ""
    async with ai.answer(LINES, model) as answer:
        try:
            async for piece in answer:
                text += piece
        except ModelFailure as failure:
            return Heard(text, answer.spent, failure.code, str(failure))
        return Heard(text, answer.spent, answer.code)


def impatient(ai: AIChain, seconds: float) -> AIChain:
    """The same models, whose clients are warm, with a shorter deadline."""
    return AIChain(ai.opened, ai.models, [], seconds, 0)


def settings_for(model: str, **values: Any) -> Settings:
    """Without retries, unless told otherwise."""
    return Settings(**{"secret_key": "x" * 32, "ai_model": model, "ai_max_retries": 0, **values})


@asynccontextmanager
async def connect(
    server: Server, dialect: Dialect, model: str | None = None, **settings: Any
) -> AsyncGenerator[AIChain]:
    with pytest.MonkeyPatch.context() as patch:
        dialect.point_at(server.url, patch)
        async with open_ai(settings_for(model or dialect.model, **settings)) as ai:
            yield ai


@asynccontextmanager
async def gateway(
    dialect: Dialect, model: str | None = None, **settings: Any
) -> AsyncGenerator[tuple[AIChain, Server]]:
    async with serve() as server, connect(server, dialect, model, **settings) as ai:
        yield ai, server


@asynccontextmanager
async def warm_gateways() -> AsyncGenerator[Connect]:
    """Each dialect's client is opened once, since that takes as long as ten tests."""
    opened: dict[str, tuple[AIChain, Server]] = {}
    async with AsyncExitStack() as stack:

        async def connect(dialect: Dialect) -> tuple[AIChain, Server]:
            if dialect.model not in opened:
                opened[dialect.model] = await stack.enter_async_context(gateway(dialect))
            return opened[dialect.model]

        yield connect


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
