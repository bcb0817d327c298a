"""Retries a model that fails, and falls back to the next one, within a timeout."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from random import SystemRandom

import structlog

from app.core.errors import Invalid
from app.core.telemetry.spans import traced
from app.services.ai.base import (
    AssistantMessage,
    Model,
    ModelFailure,
    ModelStream,
    ModelUsage,
    Piece,
    Prompt,
    full_name,
)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Bounds the seconds between two tries; each pause is about twice as long as the one before."""
RETRYABLE_CODES = {"model_disconnected", "model_overloaded", "model_unavailable"}
"""Names failures that a retry of the same model may overcome."""
FALLBACK_CODES = {*RETRYABLE_CODES, "model_quota", "model_timeout"}
"""Names failures that another model may not have."""

log = structlog.stdlib.get_logger("app.ai")


class FallbackGateway:
    """Asks the model that a prompt names and then, if that one fails before its first word, each of the fallbacks.

    Prompts may name `models`; all of them, and all of `fallbacks`, are in `opened`. A first piece, even an empty one,
    must come within `timeout` seconds, whatever is tried, and each later one within as many.
    """

    def __init__(
        self,
        opened: Mapping[str, Model],
        models: Sequence[str],
        fallbacks: Sequence[str],
        timeout: float,
        max_retries: int,
    ) -> None:
        self.models = models
        self.opened = opened
        self._fallbacks = fallbacks
        self._timeout = timeout
        self._max_retries = max_retries

    def check(self, model: str) -> None:
        if full_name(model) not in self.models:
            raise Invalid(f"The model {model} cannot be used here; use {' or '.join(self.models)}.")

    @asynccontextmanager
    async def ask(self, prompt: Prompt) -> AsyncGenerator[ModelStream]:
        asked = full_name(prompt.model) if prompt.model else self.models[0]
        chain = [self.opened[name] for name in dict.fromkeys([asked, *self._fallbacks])]
        stream = _FallbackStream(chain, prompt, self._timeout, self._max_retries)
        with traced("model", model_asked=asked) as span:
            try:
                async with aclosing(aiter(stream)):
                    yield stream
            finally:
                if span.is_recording():
                    span.set_attributes(_attributes(stream.usage))


class _FallbackStream:
    """Streams the answer of the first model in the chain that begins one."""

    def __init__(self, chain: Sequence[Model], prompt: Prompt, timeout: float, max_retries: int) -> None:
        self._chain = chain
        self._prompt = prompt
        self._timeout = timeout
        self._max_retries = max_retries
        self._current: ModelStream | None = None
        self._pieces = self._stream()

    @property
    def usage(self) -> ModelUsage:
        return self._current.usage if self._current else ModelUsage(self._chain[0].name)

    @property
    def message(self) -> AssistantMessage:
        return self._current.message if self._current else AssistantMessage()

    def __aiter__(self) -> AsyncGenerator[Piece]:
        return self._pieces

    async def _stream(self) -> AsyncGenerator[Piece]:
        piece, rest = await self._begin()
        async with aclosing(rest):
            while piece is not None:
                if piece:
                    yield piece
                piece = await self._next(rest, _now() + self._timeout)

    async def _begin(self) -> tuple[Piece | None, AsyncGenerator[Piece]]:
        """Returns the first piece, and what follows it. The models that are left share the time that is left."""
        deadline = _now() + self._timeout
        *others, last = self._chain
        for left, model in zip(range(len(self._chain), 1, -1), others, strict=True):
            try:
                return await self._retry(model, _now() + (deadline - _now()) / left)
            except ModelFailure as failure:
                if failure.code not in FALLBACK_CODES:
                    raise
                log.warning("model fallback", instead_of=model.name, code=failure.code)
        return await self._retry(last, deadline)

    async def _retry(self, model: Model, deadline: float) -> tuple[Piece | None, AsyncGenerator[Piece]]:
        for pause in pauses(0 if model.has_own_retries else self._max_retries):
            try:
                return await self._try(model, deadline)
            except ModelFailure as failure:
                wait = pause if failure.retry_after is None else failure.retry_after
                if failure.code not in RETRYABLE_CODES or _now() + wait >= deadline:
                    raise
                await asyncio.sleep(wait)
        return await self._try(model, deadline)

    async def _try(self, model: Model, deadline: float) -> tuple[Piece | None, AsyncGenerator[Piece]]:
        self._current = model.ask(self._prompt)
        pieces = aiter(self._current)
        return await self._next(pieces, deadline), pieces

    async def _next(self, pieces: AsyncGenerator[Piece], deadline: float) -> Piece | None:
        """Returns None at the end. An error or a timeout closes the stream and its connection."""
        try:
            async with asyncio.timeout_at(deadline):
                return await anext(pieces, None)
        except TimeoutError:
            log.warning("model failed", model=self.usage.model, code="model_timeout")
            raise ModelFailure("model_timeout", "The model did not answer in time.") from None


def _attributes(usage: ModelUsage) -> dict[str, str | int | float]:
    """Returns span attributes, named unlike pydantic-ai's, which has a span for each try, so that nobody adds both."""
    tokens = {"app.tokens.input": usage.input_tokens, "app.tokens.output": usage.output_tokens}
    return {"app.model": usage.model, **tokens, **({} if usage.cost is None else {"app.cost": float(usage.cost)})}


def pauses(number: int) -> Iterator[float]:
    """Yields pauses with jitter, so that requests that were refused together do not come back together."""
    for exponent in range(number):
        yield min(FIRST_PAUSE * 2**exponent, LONGEST_PAUSE) * SystemRandom().uniform(0.75, 1)


def _now() -> float:
    return asyncio.get_running_loop().time()
