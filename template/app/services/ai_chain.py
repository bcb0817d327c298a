"""Which model answers: the one that is asked for or, when it is overloaded, the next. Waiting has an end."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from random import SystemRandom
from typing import Generic, TypeVar

import structlog

from app.core.errors import Invalid
from app.core.telemetry.spans import traced
from app.services.ai import Answer, Line, Model, ModelFailure, Spent, full_name

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds between two tries; each pause is twice as long as the one before, give or take."""
PASSING = {"model_disconnected", "model_overloaded", "model_unavailable"}
"""Failures that the same model may not repeat."""
ITS_OWN = {*PASSING, "model_quota", "model_timeout"}
"""Failures that another model need not share."""

A = TypeVar("A", bound=Answer)

log = structlog.stdlib.get_logger("app.ai")


class AIChain:
    """`models` may be asked for; `fallbacks` follow, in order, whichever was. All of them are `opened`.

    The first word must come within `timeout` seconds, whatever is tried, and no later silence may be longer.
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

    def answer(self, lines: Sequence[Line], model: str | None = None) -> AbstractAsyncContextManager[Answer]:
        return self.ask(model, lambda model: model.answer(lines))

    @asynccontextmanager
    async def ask(self, model: str | None, answer_of: Callable[[Model], A]) -> AsyncGenerator["ChainAnswer[A]"]:
        """As `answer`, where `answer_of` begins the answer of a model."""
        asked = full_name(model) if model else self.models[0]
        chain = [self.opened[name] for name in dict.fromkeys([asked, *self._fallbacks])]
        answer = ChainAnswer(chain, answer_of, self._timeout, self._max_retries)
        with traced("model", model_asked=asked) as span:
            try:
                async with aclosing(aiter(answer)):
                    yield answer
            finally:
                if span.is_recording():
                    span.set_attributes(_told(answer.spent))


class ChainAnswer(Generic[A]):
    """The first model of the chain that says a word says the rest, too."""

    given: A | None = None
    """By the model that was asked last."""

    def __init__(
        self, chain: Sequence[Model], answer_of: Callable[[Model], A], timeout: float, max_retries: int
    ) -> None:
        self._chain = chain
        self._answer_of = answer_of
        self._timeout = timeout
        self._max_retries = max_retries
        self._pieces = self._speak()

    @property
    def spent(self) -> Spent:
        return self.given.spent if self.given else Spent(self._chain[0].name)

    @property
    def code(self) -> str | None:
        return self.given.code if self.given else None

    def __aiter__(self) -> AsyncGenerator[str]:
        return self._pieces

    async def _speak(self) -> AsyncGenerator[str]:
        piece, rest = await self._begin()
        async with aclosing(rest):
            while piece is not None:
                if piece:
                    yield piece
                piece = await self._next(rest, _now() + self._timeout)

    async def _begin(self) -> tuple[str | None, AsyncGenerator[str]]:
        """The first word, and what follows it. The models that are left share the time that is left."""
        deadline = _now() + self._timeout
        *others, last = self._chain
        for left, model in zip(range(len(self._chain), 1, -1), others, strict=True):
            try:
                return await self._try_again(model, _now() + (deadline - _now()) / left)
            except ModelFailure as failure:
                if failure.code not in ITS_OWN:
                    raise
                log.warning("next model", instead_of=model.name, code=failure.code)
        return await self._try_again(last, deadline)

    async def _try_again(self, model: Model, deadline: float) -> tuple[str | None, AsyncGenerator[str]]:
        for pause in pauses(0 if model.tries_by_itself else self._max_retries):
            try:
                return await self._try(model, deadline)
            except ModelFailure as failure:
                wait = pause if failure.retry_after is None else failure.retry_after
                if failure.code not in PASSING or _now() + wait >= deadline:
                    raise
                await asyncio.sleep(wait)
        return await self._try(model, deadline)

    async def _try(self, model: Model, deadline: float) -> tuple[str | None, AsyncGenerator[str]]:
        self.given = self._answer_of(model)
        pieces = aiter(self.given)
        return await self._next(pieces, deadline), pieces

    async def _next(self, pieces: AsyncGenerator[str], deadline: float) -> str | None:
        """None at the end. An error, and a deadline, too, ends the pieces with all that they hold."""
        try:
            async with asyncio.timeout_at(deadline):
                return await anext(pieces, None)
        except TimeoutError:
            log.warning("model failed", model=self.spent.model, code="model_timeout")
            raise ModelFailure("model_timeout", "The model did not answer in time.") from None


def _told(spent: Spent) -> dict[str, str | int | float]:
    """Under names that nobody adds up with those of pydantic-ai's spans, of which there is one for each try."""
    tokens = {"app.tokens.input": spent.input_tokens, "app.tokens.output": spent.output_tokens}
    return {"app.model": spent.model, **tokens, **({} if spent.cost is None else {"app.cost": float(spent.cost)})}


def pauses(number: int) -> Iterator[float]:
    """Uneven, so that those who were refused together do not come back together."""
    for exponent in range(number):
        yield min(FIRST_PAUSE * 2**exponent, LONGEST_PAUSE) * SystemRandom().uniform(0.75, 1)


def _now() -> float:
    return asyncio.get_running_loop().time()
