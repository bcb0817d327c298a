"""Fallbacks, tries and deadlines are those of answers without tools; a sign of life is what counts as a word."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest

from app.core.errors import Invalid
from app.services.agent_ai import NOTHING, AgentModel, Answered, Asked, Prompt, Step, ToolCall
from app.services.agent_chain import AgentChain
from app.services.ai import ModelFailure, Spent
from app.services.ai_chain import AIChain
from app.services.demo import DemoModel

SILENCE = None
ALIVE = ""
PROMPT = Prompt("a", "Be kind.", 0.7, [Asked("?")], [])
CALLED = Answered("", [ToolCall("1", "now", "{}")], None, None)


class Named(DemoModel):
    def __init__(self, name: str) -> None:
        super().__init__(0)
        self.name = name


class Scripted:
    """Does, in each try, what the next of its scripts says; the last one again and again."""

    def __init__(self, *scripts: Sequence[str | ModelFailure | None], answered: Answered = CALLED) -> None:
        self.scripts = list(scripts)
        self.answered = answered
        self.steps: list[Said] = []

    def ask(self, prompt: Prompt) -> Step:
        assert prompt.instructions == PROMPT.instructions
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        self.steps.append(Said(script, self.answered))
        return self.steps[-1]


class Said:
    code: str | None = None
    spent = Spent("a", 1, 2)
    ended = False

    def __init__(self, script: Sequence[str | ModelFailure | None], answered: Answered) -> None:
        self._script = script
        self._last = answered
        self.answered = NOTHING

    async def __aiter__(self) -> AsyncGenerator[str]:
        try:
            for step in self._script:
                if isinstance(step, ModelFailure):
                    raise step
                if step is None:
                    await asyncio.Event().wait()
                else:
                    yield step
            self.answered = self._last
        finally:
            self.ended = True


def chain(*models: AgentModel, timeout: float = 30, max_retries: int = 0) -> AgentChain:
    """They are called a, b, c …; the first is asked, the others are its fallbacks."""
    names = "abc"[: len(models)]
    ai = AIChain({name: Named(name) for name in names}, [names[0]], list(names[1:]), timeout, max_retries)
    return AgentChain(ai, dict(zip(names, models, strict=True)))


async def hear(ai: AgentChain) -> tuple[list[str], Answered, str | None]:
    pieces: list[str] = []
    async with ai.ask(PROMPT) as step:
        try:
            async for piece in step:
                pieces.append(piece)
        except ModelFailure as failure:
            return pieces, step.answered, failure.code
        return pieces, step.answered, None


def failure(code: str) -> ModelFailure:
    return ModelFailure(code, "It failed.", 0)


async def test_what_shows_life_is_no_piece_of_text() -> None:
    assert await hear(chain(Scripted([ALIVE, "Yes", ALIVE, "."]))) == (["Yes", "."], CALLED, None)


async def test_another_try_and_the_next_model_come_before_any_life() -> None:
    first, second = Scripted([failure("model_overloaded")]), Scripted([failure("model_unavailable")], [ALIVE])
    assert await hear(chain(first, second, max_retries=1)) == ([], CALLED, None)
    assert (len(first.steps), len(second.steps)) == (2, 2)


async def test_after_a_sign_of_life_there_is_no_other_model_and_no_other_try() -> None:
    first, second = Scripted([ALIVE, failure("model_overloaded")]), Scripted(["No."])
    assert await hear(chain(first, second, max_retries=2)) == ([], NOTHING, "model_overloaded")
    assert (len(first.steps), len(second.steps)) == (1, 0)


async def test_a_silence_after_a_sign_of_life_ends_it() -> None:
    model = Scripted([ALIVE, ALIVE, SILENCE])
    assert await hear(chain(model, timeout=0.05)) == ([], NOTHING, "model_timeout")
    assert model.steps[0].ended


async def test_signs_of_life_may_take_longer_in_all_than_one_silence() -> None:
    class Slow(Said):
        async def __aiter__(self) -> AsyncGenerator[str]:
            for _ in range(8):
                await asyncio.sleep(0.05)
                yield ALIVE
            self.answered = self._last

    class SlowModel:
        def ask(self, prompt: Prompt) -> Step:
            return Slow([], CALLED)

    assert await hear(chain(SlowModel(), timeout=0.3)) == ([], CALLED, None)


async def test_leaving_stops_the_model() -> None:
    model = Scripted(["Yes", SILENCE])
    async with chain(model).ask(PROMPT) as step:
        assert await anext(aiter(step)) == "Yes"
        assert (step.spent, step.answered) == (Spent("a", 1, 2), NOTHING)
        assert not model.steps[0].ended
    assert model.steps[0].ended


async def test_a_model_that_is_never_heard_is_never_asked() -> None:
    model = Scripted(["Yes."])
    async with chain(model).ask(PROMPT) as step:
        assert (step.spent, step.answered, step.code) == (Spent("a"), NOTHING, None)
    assert model.steps == []


async def test_the_one_that_is_asked_for_is_asked_and_others_are_refused() -> None:
    first, second = Scripted(["No."]), Scripted(["Yes."])
    ai = chain(first, second)
    async with ai.ask(replace(PROMPT, model="b")) as step:
        assert [piece async for piece in step] == ["Yes."]
    assert ai.models == ["a"]
    ai.check("a")
    with pytest.raises(Invalid):
        ai.check("c")
