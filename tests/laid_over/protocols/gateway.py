"""Runs the application's own gateway to models against the test's server, and returns what it streams."""

import io
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from app.core.config import Settings
from app.core.logging import configure_logging
from app.services.ai import AssistantMessage, ModelFailure, ModelGateway, ModelUsage, Prompt, Reasoning, UserMessage
from app.services.ai.fallback import FallbackGateway
from app.services.ai.registry import open_gateway
from tests.protocols.dialect import SECRET, Dialect
from tests.protocols.server import Server, serve

Connect = Callable[[Dialect], Awaitable[tuple[FallbackGateway, Server]]]

MESSAGES = (
    UserMessage(f"Do you know {SECRET}?"),
    AssistantMessage(f"Yes, {SECRET} is a password."),
    UserMessage(f"Is {SECRET} a good one?"),
)
PROMPT = Prompt(MESSAGES, "You are a helpful assistant.")


@dataclass(frozen=True)
class Heard:
    text: str
    usage: ModelUsage
    code: str | None = None
    sentence: str = ""
    """Holds the sentence of a failure."""
    message: AssistantMessage = field(default=AssistantMessage(), compare=False)
    reasoning: str = ""


async def ask(ai: ModelGateway, prompt: Prompt = PROMPT) -> Heard:
    text = reasoning = ""
    async with ai.ask(prompt) as stream:
        try:
            async for piece in stream:
                if isinstance(piece, Reasoning):
                    reasoning += piece.text
                else:
                    text += piece
        except ModelFailure as failure:
            return Heard(text, stream.usage, failure.code, str(failure), stream.message, reasoning)
        assert stream.message.reasoning == reasoning
        return Heard(text, stream.usage, stream.message.code, message=stream.message, reasoning=reasoning)


def impatient(ai: FallbackGateway, seconds: float) -> FallbackGateway:
    """Returns a gateway with the same models, whose clients are open already, and a shorter deadline."""
    return FallbackGateway(ai.opened, ai.models, [], seconds, 0)


def settings_for(model: str, **values: Any) -> Settings:
    """Makes settings without retries, unless `values` say otherwise."""
    return Settings(**{"secret_key": "x" * 32, "ai_model": model, "ai_max_retries": 0, **values})


@asynccontextmanager
async def connect(
    server: Server, dialect: Dialect, model: str | None = None, **settings: Any
) -> AsyncGenerator[FallbackGateway]:
    with pytest.MonkeyPatch.context() as patch:
        dialect.point_at(server.url, patch)
        async with open_gateway(settings_for(model or dialect.model, **settings)) as ai:
            yield ai


@asynccontextmanager
async def gateway(
    dialect: Dialect, model: str | None = None, **settings: Any
) -> AsyncGenerator[tuple[FallbackGateway, Server]]:
    async with serve() as server, connect(server, dialect, model, **settings) as ai:
        yield ai, server


@asynccontextmanager
async def warm_gateways() -> AsyncGenerator[Connect]:
    """Opens the client of each dialect only once, since that takes as long as ten tests."""
    opened: dict[str, tuple[FallbackGateway, Server]] = {}
    async with AsyncExitStack() as stack:

        async def connect(dialect: Dialect) -> tuple[FallbackGateway, Server]:
            if dialect.model not in opened:
                opened[dialect.model] = await stack.enter_async_context(gateway(dialect))
            return opened[dialect.model]

        yield connect


@contextmanager
def everything_logged() -> Generator[io.StringIO]:
    """Captures the logs of every library, in JSON and from DEBUG on."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    configure_logging(settings_for("demo", log_level="DEBUG", log_format="json"))
    # Cached loggers would outlive the test.
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
