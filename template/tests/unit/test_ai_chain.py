"""Which model answers, how often each is tried, and how long one waits."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from app.core.errors import Invalid
from app.services.ai import Line, ModelFailure, Spent
from app.services.ai_chain import FIRST_PAUSE, ITS_OWN, LONGEST_PAUSE, PASSING, AIChain, pauses
from app.services.ai_model import open_ai
from tests.protocols.gateway import Heard, ask, settings_for

SILENCE = None
OTHERS = ["model_refused_key", "context_too_long", "content_filtered", "refused", "tool_call", "empty_answer", "length"]
Step = str | ModelFailure | None


class Scripted:
    """Does, in each try, what the next of its scripts says; the last one again and again."""

    def __init__(self, name: str, *scripts: Sequence[Step], tries_by_itself: bool = False) -> None:
        self.name = name
        self.tries_by_itself = tries_by_itself
        self.scripts = list(scripts)
        self.answers: list[Said] = []

    def answer(self, lines: Sequence[Line]) -> "Said":
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        self.answers.append(Said(self.name, script))
        return self.answers[-1]

    @property
    def tries(self) -> int:
        return len(self.answers)


class Said:
    code: str | None = None

    def __init__(self, name: str, script: Sequence[Step]) -> None:
        self.spent = Spent(name)
        self._script = script
        self.ended = False

    async def __aiter__(self) -> AsyncGenerator[str]:
        try:
            for step in self._script:
                if isinstance(step, ModelFailure):
                    raise step
                if step is None:
                    await asyncio.Event().wait()
                else:
                    yield step
        finally:
            self.ended = True


def failure(code: str, retry_after: float | None = None) -> ModelFailure:
    return ModelFailure(code, "It failed.", retry_after)


def chain(*models: Scripted, timeout: float = 30, max_retries: int = 0) -> AIChain:
    """The first is asked, the others are its fallbacks."""
    opened = {model.name: model for model in models}
    return AIChain(opened, [models[0].name], list(opened)[1:], timeout, max_retries)


def heard(text: str, model: str, code: str | None = None) -> Heard:
    return Heard(text, Spent(model), code, "It failed." if code else "")


@pytest.mark.parametrize("code", sorted(ITS_OWN))
async def test_the_next_model_answers_when_one_cannot(code: str) -> None:
    first, second, third = Scripted("a", [failure(code)]), Scripted("b", [failure(code)]), Scripted("c", ["Yes", "."])
    assert await ask(chain(first, second, third)) == heard("Yes.", "c")
    assert (first.tries, second.tries, third.tries) == (1, 1, 1)


@pytest.mark.parametrize("code", OTHERS)
async def test_what_another_model_would_share_is_the_end(code: str) -> None:
    first, second = Scripted("a", [failure(code)]), Scripted("b", ["Yes."])
    assert await ask(chain(first, second, max_retries=2)) == heard("", "a", code)
    assert (first.tries, second.tries) == (1, 0)


@pytest.mark.parametrize("code", sorted(ITS_OWN))
async def test_after_a_word_there_is_no_other_model_and_no_other_try(code: str) -> None:
    first, second = Scripted("a", ["Yes", failure(code, 0)]), Scripted("b", ["No."])
    assert await ask(chain(first, second, max_retries=2)) == heard("Yes", "a", code)
    assert (first.tries, second.tries) == (1, 0)


@pytest.mark.parametrize("code", sorted(PASSING))
async def test_what_may_pass_is_tried_again(code: str) -> None:
    model = Scripted("a", [failure(code, 0)], [failure(code, 0)], ["Yes."])
    assert await ask(chain(model, max_retries=2)) == heard("Yes.", "a")
    assert model.tries == 3


async def test_tries_have_an_end() -> None:
    first, second = Scripted("a", [failure("model_overloaded", 0)]), Scripted("b", [failure("model_overloaded", 0)])
    assert await ask(chain(first, second, max_retries=2)) == heard("", "b", "model_overloaded")
    assert (first.tries, second.tries) == (3, 3)


async def test_a_model_that_tries_by_itself_is_asked_once() -> None:
    model = Scripted("a", [failure("model_overloaded", 0)], tries_by_itself=True)
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
    assert (answered.code, answered.spent.model) == ("model_timeout", "c")
    assert 0.3 <= loop.time() - begun < 0.8  # each for itself would take 0.9


async def test_a_silence_after_a_word_ends_it() -> None:
    model = Scripted("a", ["Yes", SILENCE])
    answered = await ask(chain(model, timeout=0.05))
    assert (answered.text, answered.code) == ("Yes", "model_timeout")
    assert model.answers[-1].ended


async def test_a_sign_of_life_is_not_passed_on() -> None:
    async with chain(Scripted("a", ["", "Yes", "", "."])).answer([Line("user", "?")]) as answer:
        assert [piece async for piece in answer] == ["Yes", "."]


async def test_a_slow_reader_is_not_a_silent_model() -> None:
    text = ""
    async with chain(Scripted("a", list("slow")), timeout=0.02).answer([Line("user", "?")]) as answer:
        async for piece in answer:
            await asyncio.sleep(0.03)
            text += piece
    assert text == "slow"


async def test_leaving_ends_the_model() -> None:
    model = Scripted("a", ["Yes", SILENCE])
    async with chain(model).answer([Line("user", "?")]) as answer:
        assert await anext(aiter(answer)) == "Yes"
        assert not model.answers[-1].ended
    assert model.answers[-1].ended


async def test_a_model_that_is_never_heard_is_never_asked() -> None:
    model = Scripted("a", ["Yes."])
    async with chain(model).answer([Line("user", "?")]) as answer:
        assert answer.spent == Spent("a")
    assert model.tries == 0


async def test_the_one_that_is_asked_for_comes_first_and_no_model_twice() -> None:
    opened = {name: Scripted(name, [failure("model_overloaded")]) for name in ("openai:gpt-5", "b", "c")}
    ai = AIChain(opened, list(opened), ["b", "openai:gpt-5", "c"], 30, 0)
    assert (await ask(ai, "gpt-5")).spent.model == "c"
    assert [model.tries for model in opened.values()] == [1, 1, 1]
    assert (await ask(ai, "c")).spent.model == "openai:gpt-5"


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
    async with open_ai(settings_for("demo", **settings)) as ai:
        assert ai.models == models
        ai.check("demo")
        with pytest.raises(Invalid, match=r"^The model gpt-5 cannot be used here; use demo\.$"):
            ai.check("gpt-5")
