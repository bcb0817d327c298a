"""Tests each provider's models with tools, through its own SDK, against a server that imitates the provider."""

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from app.services.ai import AssistantMessage, Prompt, ToolCall, ToolResult
from app.services.ai.demo import DemoModel
from app.services.ai.fallback import FallbackGateway
from tests.protocols.dialect import INPUT_TOKENS, OUTPUT_TOKENS, SECRET, SO_FAR, Call, Dialect, Failure
from tests.protocols.gateway import Connect, everything_logged, gateway, warm_gateways
from tests.protocols.rounds import ASKED, SECOND, TOOLS, WORDS, ask, history
from tests.protocols.server import End
from tests.protocols.spoken import INSTALLED

ROME = Call("call_1", "weather", ('{"ci', 'ty": "Ro', 'me"}'))
OSLO = Call("call_2", "weather", ('{"city":', ' "Oslo"}'))
CALLS: dict[str, tuple[str, Sequence[Call]]] = {
    "one in pieces": ("", [ROME]),
    "two at once": ("", [ROME, OSLO]),
    "after words": (WORDS, [ROME]),
    "without arguments": ("", [Call("call_1", "weather", ())]),
}
FAILING = {
    "rate limit",
    "key refused",
    "context too long",
    "content filter",
    "refusal",
    "cut",
    "no last word",
    "nothing said",
    "unexpected tool call",
    "error event",
}
"""Names the failures that are tried with tools, too; all others are handled by the same code."""
TEMPERATURES = {
    "anthropic:claude-opus-4-7": False,
    "openai:gpt-4o": True,
    "openai:gpt-5.1": True,
    "openai:gpt-5": False,
    "openai-chat:o3": False,
}
"""Tells for each model whether it accepts a temperature."""

every = pytest.mark.parametrize("dialect", INSTALLED, ids=lambda dialect: dialect.model)


def failures(dialect: Dialect) -> dict[str, Failure]:
    frames = dialect.calling("", ROME)
    beginning = frames[: len(frames) // 2]
    return {
        **{name: failure for name, failure in dialect.failures().items() if name in FAILING},
        "cut in a call": Failure(dialect.answer(beginning, End.cut), "model_disconnected"),
        "no last word after a call": Failure(dialect.answer(beginning, End.whole), "model_disconnected"),
    }


FAILURES = {
    f"{dialect.model}-{name}": (dialect, failure)
    for dialect in INSTALLED
    for name, failure in failures(dialect).items()
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def connected(anyio_backend: str) -> AsyncGenerator[Connect]:
    assert anyio_backend
    async with warm_gateways() as connect:
        yield connect


def read(call: ToolCall) -> tuple[str, str, Any]:
    return call.id, call.name, json.loads(call.arguments)


@pytest.mark.parametrize(("text", "calls"), CALLS.values(), ids=CALLS)
@every
async def test_calls_are_heard(dialect: Dialect, text: str, calls: Sequence[Call], connected: Connect) -> None:
    ai, server = await connected(dialect)
    server.will(dialect.answer(dialect.calling(text, *calls)))
    told = await ask(ai, ASKED)
    wanted = [(call.id, call.name, json.loads("".join(call.pieces) or "{}")) for call in calls]
    assert list(map(read, told.message.tool_calls)) == wanted
    assert (told.text, told.message.text, told.message.code, told.code) == (text, text, None, None)
    assert (told.usage.input_tokens, told.usage.output_tokens) == (INPUT_TOKENS, OUTPUT_TOKENS)
    assert (told.usage.model, told.usage.cost) == (dialect.model, dialect.cost)


@every
async def test_a_call_that_comes_in_pieces_shows_life(dialect: Dialect, connected: Connect) -> None:
    ai, server = await connected(dialect)
    server.will(dialect.answer(dialect.calling("", ROME)))
    stream = ai.opened[dialect.model].ask(Prompt([ASKED], tools=TOOLS))
    pieces = [piece async for piece in stream]
    assert len(pieces) >= (len(ROME.pieces) if dialect.writes_arguments else 1)
    assert not any(pieces)


@pytest.mark.parametrize("dialect", [d for d in INSTALLED if d.writes_arguments], ids=lambda dialect: dialect.model)
async def test_arguments_that_are_no_json_are_kept_and_can_be_answered(dialect: Dialect, connected: Connect) -> None:
    ai, server = await connected(dialect)
    server.will(
        dialect.answer(dialect.calling("", Call("call_1", "weather", ('{"city": ', "Rome")))), dialect.speak("Oh.")
    )
    first = await ask(ai, ASKED)
    assert first.message.tool_calls == [ToolCall("call_1", "weather", '{"city": Rome')]
    sentence = "The arguments are no JSON."
    second = await ask(ai, ASKED, first.message, ToolResult("call_1", "weather", sentence))
    assert (second.text, second.code) == ("Oh.", None)
    assert sentence in json.dumps(server.requests[-1].body)


@every
async def test_what_is_sent_in_the_second_round(dialect: Dialect, connected: Connect) -> None:
    ai, server = await connected(dialect)
    server.will(dialect.answer(dialect.calling(WORDS, ROME, OSLO)), dialect.speak("Yes."))
    first = await ask(ai, ASKED)
    second = await ask(ai, *history(first.message))
    assert (second.text, second.message.text, second.message.tool_calls) == ("Yes.", "Yes.", [])
    body, wanted = server.requests[1].body, SECOND[dialect.model]
    assert {key: body.get(key) for key in wanted} == wanted


@every
async def test_instructions_may_be_empty(dialect: Dialect, connected: Connect) -> None:
    ai, server = await connected(dialect)
    server.will(dialect.speak("Yes."))
    assert (await ask(ai, ASKED, instructions="")).code is None


@every
async def test_a_round_of_another_model_is_taken_up(dialect: Dialect, connected: Connect) -> None:
    ai, server = await connected(dialect)
    both = FallbackGateway({**ai.opened, "demo": DemoModel(0)}, ai.models, ["demo"], 30, 0)
    server.will(dialect.overloaded, dialect.speak("Yes."))
    first = await ask(both, ASKED)
    assert (first.usage.model, first.usage.cost) == ("demo", Decimal(0))
    [call] = first.message.tool_calls
    second = await ask(both, ASKED, first.message, ToolResult(call.id, call.name, "18 degrees"))
    assert (second.text, second.usage.model) == ("Yes.", dialect.model)
    sent = json.dumps(server.requests[1].body)
    assert sent.count(call.id) == 2
    assert "18 degrees" in sent


@pytest.mark.parametrize(("dialect", "failure"), FAILURES.values(), ids=FAILURES)
async def test_a_failure_has_a_code_and_repeats_nothing(dialect: Dialect, failure: Failure, connected: Connect) -> None:
    ai, server = await connected(dialect)
    server.will(failure.answer)
    with everything_logged() as log:
        told = await ask(ai, ASKED)
    assert (told.code, told.text, len(server.requests)) == (failure.code, failure.text, 1)
    assert told.message == AssistantMessage()
    assert SECRET not in told.sentence
    assert SECRET not in log.getvalue()


@every
async def test_a_call_of_a_tool_where_there_are_none_is_a_failure(dialect: Dialect, connected: Connect) -> None:
    ai, server = await connected(dialect)
    server.will(dialect.answer(dialect.calling(SO_FAR, ROME)))
    told = await ask(ai, ASKED, tools=[])
    assert (told.code, told.text, told.message) == ("tool_call", SO_FAR, AssistantMessage())


@every
async def test_a_cut_in_a_call_counts_what_was_heard_of_it(dialect: Dialect, connected: Connect) -> None:
    ai, server = await connected(dialect)
    long = json.dumps({"city": "Rome" * 20})
    frames = dialect.calling("", replace(ROME, pieces=(long,)))
    server.will(dialect.answer(frames[: -len(dialect.closing("", "tool_calls"))], End.cut))
    told = await ask(ai, ASKED)
    assert told.code == "model_disconnected"
    assert told.usage.output_tokens > 20
    assert told.usage.input_tokens >= INPUT_TOKENS


@pytest.mark.parametrize("model", TEMPERATURES)
async def test_a_model_that_takes_no_temperature_is_given_none(model: str) -> None:
    for dialect in INSTALLED:
        if dialect.model.split(":")[0] == model.split(":", maxsplit=1)[0]:
            async with gateway(dialect, model) as (ai, server):
                server.will(dialect.speak("Yes."))
                assert (await ask(ai, ASKED)).code is None
            assert ("temperature" in server.requests[0].body) == TEMPERATURES[model]
