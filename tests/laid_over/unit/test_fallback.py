"""Tests which model answers, how often each is tried, and how long a request waits."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.core.errors import Invalid
from app.services.ai import AssistantMessage, ModelFailure, ModelUsage, Piece, Prompt, Reasoning, ToolCall
from app.services.ai.base import Model
from app.services.ai.demo import DemoModel
from app.services.ai.fallback import (
    FALLBACK_CODES,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    RETRYABLE_CODES,
    FallbackGateway,
    pauses,
)
from app.services.ai.registry import open_gateway
from tests.protocols.gateway import PROMPT, Heard, ask, settings_for

SILENCE = None
ALIVE = ""
CALLED = AssistantMessage("", [ToolCall("1", "now", "{}")])
OTHERS = ["model_refused_key", "context_too_long", "content_filtered", "refused", "tool_call", "empty_answer", "length"]
Step = Piece | ModelFailure | None


class Scripted:
    """Follows one script for each try; the last one is used for all further tries."""

    def __init__(self, name: str, *scripts: Sequence[Step], has_own_retries: bool = False) -> None:
        self.name = name
        self.has_own_retries = has_own_retries
        self.scripts = list(scripts)
        self.answers: list[Said] = []

    def ask(self, prompt: Prompt) -> "Said":
        assert prompt.instructions == PROMPT.instructions
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        self.answers.append(Said(self.name, script))
        return self.answers[-1]

    @property
    def tries(self) -> int:
        return len(self.answers)


class Said:
    """Streams its script, and then calls a tool."""

    def __init__(self, name: str, script: Sequence[Step]) -> None:
        self.usage = ModelUsage(name)
        self.message = AssistantMessage()
        self._script = script
        self.ended = False

    async def __aiter__(self) -> AsyncGenerator[Piece]:
        try:
            for step in self._script:
                if isinstance(step, ModelFailure):
                    raise step
                if step is None:
                    await asyncio.Event().wait()
                else:
                    yield step
            self.message = CALLED
        finally:
            self.ended = True


def failure(code: str, retry_after: float | None = None) -> ModelFailure:
    return ModelFailure(code, "It failed.", retry_after)


def chain(*models: Model, timeout: float = 30, max_retries: int = 0) -> FallbackGateway:
    """Makes a gateway that asks the first model, with the others as its fallbacks."""
    opened = {model.name: model for model in models}
    return FallbackGateway(opened, [models[0].name], list(opened)[1:], timeout, max_retries)


def heard(text: str, model: str, code: str | None = None) -> Heard:
    return Heard(text, ModelUsage(model), code, "It failed." if code else "")


@pytest.mark.parametrize("code", sorted(FALLBACK_CODES))
async def test_the_next_model_answers_when_one_cannot(code: str) -> None:
    first, second, third = Scripted("a", [failure(code)]), Scripted("b", [failure(code)]), Scripted("c", ["Yes", "."])
    assert await ask(chain(first, second, third)) == heard("Yes.", "c")
    assert (first.tries, second.tries, third.tries) == (1, 1, 1)


@pytest.mark.parametrize("code", OTHERS)
async def test_what_another_model_would_share_is_the_end(code: str) -> None:
    first, second = Scripted("a", [failure(code)]), Scripted("b", ["Yes."])
    assert await ask(chain(first, second, max_retries=2)) == heard("", "a", code)
    assert (first.tries, second.tries) == (1, 0)


@pytest.mark.parametrize("code", sorted(FALLBACK_CODES))
async def test_after_a_word_there_is_no_other_model_and_no_other_try(code: str) -> None:
    first, second = Scripted("a", ["Yes", failure(code, 0)]), Scripted("b", ["No."])
    assert await ask(chain(first, second, max_retries=2)) == heard("Yes", "a", code)
    assert (first.tries, second.tries) == (1, 0)


@pytest.mark.parametrize("code", sorted(RETRYABLE_CODES))
async def test_what_may_pass_is_tried_again(code: str) -> None:
    model = Scripted("a", [failure(code, 0)], [failure(code, 0)], ["Yes."])
    assert await ask(chain(model, max_retries=2)) == heard("Yes.", "a")
    assert model.tries == 3


async def test_tries_have_an_end() -> None:
    first, second = Scripted("a", [failure("model_overloaded", 0)]), Scripted("b", [failure("model_overloaded", 0)])
    assert await ask(chain(first, second, max_retries=2)) == heard("", "b", "model_overloaded")
    assert (first.tries, second.tries) == (3, 3)


async def test_a_model_that_has_own_retries_is_asked_once() -> None:
    model = Scripted("a", [failure("model_overloaded", 0)], has_own_retries=True)
    assert (await ask(chain(model, max_retries=2))).code == "model_overloaded"
    assert model.tries == 1


async def test_a_wait_that_the_deadline_does_not_allow_is_not_begun() -> None:
    first, second = Scripted("a", [failure("model_overloaded", 16)]), Scripted("b", ["Yes."])
    async with asyncio.timeout(10):
        assert await ask(chain(first, second, timeout=30, max_retries=5)) == heard("Yes.", "b")
    assert first.tries == 1


async def test_a_silent_model_leaves_time_for_the_next() -> None:
    first, second = Scripted("a", [SILENCE]), Scripted("b", ["Yes."])
    assert await ask(chain(first, second, timeout=0.1)) == heard("Yes.", "b")
    assert first.answers[-1].ended


async def test_the_deadline_is_for_all_models_and_tries_together() -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    models = [Scripted(name, [failure("model_overloaded", 0)], [SILENCE]) for name in "abc"]
    answered = await ask(chain(*models, timeout=0.3, max_retries=1))
    assert (answered.code, answered.usage.model) == ("model_timeout", "c")
    assert 0.3 <= loop.time() - begun < 0.8  # a deadline for each would take 0.9


async def test_a_silence_after_a_word_ends_it() -> None:
    model = Scripted("a", ["Yes", SILENCE])
    answered = await ask(chain(model, timeout=0.05))
    assert (answered.text, answered.code) == ("Yes", "model_timeout")
    assert model.answers[-1].ended


async def test_a_sign_of_life_is_not_passed_on() -> None:
    async with chain(Scripted("a", [ALIVE, "Yes", ALIVE, "."])).ask(PROMPT) as stream:
        assert [piece async for piece in stream] == ["Yes", "."]
        assert stream.message == CALLED


async def test_another_try_and_the_next_model_come_before_any_life() -> None:
    first = Scripted("a", [failure("model_overloaded", 0)])
    second = Scripted("b", [failure("model_unavailable", 0)], [ALIVE])
    answered = await ask(chain(first, second, max_retries=1))
    assert (answered, answered.message) == (heard("", "b"), CALLED)
    assert (first.tries, second.tries) == (2, 2)


async def test_after_a_sign_of_life_there_is_no_other_model_and_no_other_try() -> None:
    first, second = Scripted("a", [ALIVE, failure("model_overloaded", 0)]), Scripted("b", ["No."])
    answered = await ask(chain(first, second, max_retries=2))
    assert (answered, answered.message) == (heard("", "a", "model_overloaded"), AssistantMessage())
    assert (first.tries, second.tries) == (1, 0)


async def test_a_silence_after_a_sign_of_life_ends_it() -> None:
    model = Scripted("a", [ALIVE, ALIVE, SILENCE])
    answered = await ask(chain(model, timeout=0.05))
    assert (answered.text, answered.code, answered.message) == ("", "model_timeout", AssistantMessage())
    assert model.answers[-1].ended


async def test_signs_of_life_may_take_longer_in_all_than_one_silence() -> None:
    class Slow(Said):
        async def __aiter__(self) -> AsyncGenerator[Piece]:
            for _ in range(8):
                await asyncio.sleep(0.05)
                yield ALIVE
            self.message = CALLED

    class SlowModel(Scripted):
        def ask(self, prompt: Prompt) -> Said:
            return Slow(self.name, [])

    assert (await ask(chain(SlowModel("a"), timeout=0.3))).message == CALLED


async def test_a_slow_reader_is_not_a_silent_model() -> None:
    text = ""
    async with chain(Scripted("a", list("slow")), timeout=0.02).ask(PROMPT) as stream:
        async for piece in stream:
            await asyncio.sleep(0.03)
            text += str(piece)
    assert text == "slow"


async def test_reasoning_is_passed_on_and_is_the_beginning_of_an_answer() -> None:
    started = Scripted("a", ["", Reasoning("so"), failure("model_overloaded")])
    second = Scripted("b", ["No"])
    async with chain(started, second).ask(PROMPT) as stream:
        pieces = aiter(stream)
        assert await anext(pieces) == Reasoning("so")
        with pytest.raises(ModelFailure):
            await anext(pieces)
    assert second.tries == 0


async def test_a_fallback_is_asked_with_the_same_prompt() -> None:
    prompt = replace(PROMPT, reasoning_effort="low", output_schema={"type": "object", "properties": {}})
    heard = await ask(chain(Scripted("a", [failure("model_overloaded")]), DemoModel(0)), prompt)
    assert (heard.text, bool(heard.reasoning)) == ("{}", True)


async def test_leaving_ends_the_model() -> None:
    model = Scripted("a", ["Yes", SILENCE])
    async with chain(model).ask(PROMPT) as stream:
        assert await anext(aiter(stream)) == "Yes"
        assert (stream.usage, stream.message) == (ModelUsage("a"), AssistantMessage())
        assert not model.answers[-1].ended
    assert model.answers[-1].ended


async def test_a_model_that_is_never_heard_is_never_asked() -> None:
    model = Scripted("a", ["Yes."])
    async with chain(model).ask(PROMPT) as stream:
        assert (stream.usage, stream.message) == (ModelUsage("a"), AssistantMessage())
    assert model.tries == 0


async def test_the_one_that_is_asked_for_comes_first_and_no_model_twice() -> None:
    opened = {name: Scripted(name, [failure("model_overloaded")]) for name in ("openai:gpt-5", "b", "c")}
    ai = FallbackGateway(opened, list(opened), ["b", "openai:gpt-5", "c"], 30, 0)
    assert (await ask(ai, replace(PROMPT, model="gpt-5"))).usage.model == "c"
    assert [model.tries for model in opened.values()] == [1, 1, 1]
    assert (await ask(ai, replace(PROMPT, model="c"))).usage.model == "openai:gpt-5"


def test_pauses_grow_to_a_limit() -> None:
    found = list(pauses(8))
    wanted = [min(FIRST_PAUSE * 2**number, LONGEST_PAUSE) for number in range(8)]
    assert all(0.75 * most <= pause <= most for pause, most in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ("settings", "models"),
    [
        ({}, ["demo"]),
        ({"ai_fallback_models": ["demo"]}, ["demo"]),
        ({"ai_allowed_models": ["demo", "demo"]}, ["demo"]),
    ],
)
async def test_which_models_may_be_asked_for(settings: dict[str, Any], models: Sequence[str]) -> None:
    async with open_gateway(settings_for("demo", **settings)) as ai:
        assert ai.models == models
        ai.check("demo")
        with pytest.raises(Invalid, match=r"^The model gpt-5 cannot be used here; use demo\.$"):
            ai.check("gpt-5")
