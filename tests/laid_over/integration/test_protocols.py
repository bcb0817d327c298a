"""Tests each provider's models, through its own SDK, against a server that imitates the provider."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from app.services.ai import ModelFailure, ModelUsage, Prompt
from app.services.ai.registry import open_gateway
from tests.protocols.dialect import INPUT_TOKENS, KEY, OUTPUT_TOKENS, SECRET, SO_FAR, Dialect, Failure, Sent
from tests.protocols.gateway import (
    MESSAGES,
    PROMPT,
    Connect,
    ask,
    connect,
    everything_logged,
    gateway,
    impatient,
    settings_for,
    warm_gateways,
)
from tests.protocols.server import Answer, End, serve
from tests.protocols.spoken import INSTALLED

FAILURES = {
    f"{dialect.model}-{name}": (dialect, failure)
    for dialect in INSTALLED
    for name, failure in dialect.failures().items()
}
ENDS = {
    f"{dialect.model}-{reason}": (dialect, reason, code)
    for dialect in INSTALLED
    for reasons, code in ((dialect.stop_reasons, "length"), (dialect.new_reasons, None))
    for reason in reasons
}

every = pytest.mark.parametrize("dialect", INSTALLED, ids=lambda dialect: dialect.model)


def table(names: str, cases: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(names, cases.values(), ids=cases.keys())


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def connected(anyio_backend: str) -> AsyncGenerator[Connect]:
    assert anyio_backend
    async with warm_gateways() as connect:
        yield connect


@every
async def test_a_reply_comes_piece_by_piece_and_says_what_it_used(dialect: Dialect) -> None:
    said = asyncio.Event()
    *beginning, last = dialect.begin("Yes", ", indeed.")
    async with gateway(dialect) as (ai, server), ai.ask(PROMPT) as stream:
        server.will(dialect.answer([*beginning, said, last, *dialect.closing("Yes, indeed.")]))
        pieces = aiter(stream)
        assert await anext(pieces) == "Yes"
        said.set()
        assert [piece async for piece in pieces] == [", indeed."]
        assert (stream.usage.input_tokens, stream.usage.output_tokens) == (INPUT_TOKENS, OUTPUT_TOKENS)
        assert (stream.usage.model, stream.usage.cost, stream.message.code) == (dialect.model, dialect.cost, None)


@every
async def test_what_is_sent(dialect: Dialect) -> None:
    async with gateway(dialect) as (ai, server):
        server.will(dialect.speak("Yes."))
        assert (await ask(ai, Prompt(MESSAGES, "Be brief."))).text == "Yes."
    [request] = server.requests
    name = dialect.model.split(":", 1)[1]
    said = [("user", MESSAGES[0].text), ("assistant", MESSAGES[1].text), ("user", MESSAGES[2].text)]
    assert dialect.sent(request) == Sent(dialect.path, KEY, name, "Be brief.", said)


@every
async def test_a_key_may_come_with_quotes_and_a_line_break(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve() as server:
        dialect.point_at(server.url, monkeypatch)
        if not dialect.key_variable.startswith("AWS_"):  # the AWS SDK reads its credentials itself
            monkeypatch.setenv(dialect.key_variable, f' "{KEY}"\r\n')
        async with open_gateway(settings_for(dialect.model)) as ai:
            server.will(dialect.speak("Yes."))
            assert (await ask(ai)).text == "Yes."
    assert dialect.sent(server.requests[0]).key == KEY


@table("dialect, failure", FAILURES)
async def test_a_failure_has_a_code_and_repeats_nothing(dialect: Dialect, failure: Failure, connected: Connect) -> None:
    ai, server = await connected(dialect)
    server.will(failure.answer)
    with everything_logged() as log:
        heard = await ask(ai)
    assert (heard.code, heard.text, len(server.requests)) == (failure.code, failure.text, 1)
    assert heard.sentence
    assert SECRET not in heard.sentence
    assert "model failed" in log.getvalue()
    assert SECRET not in log.getvalue()


@every
async def test_silence_before_a_word_is_a_timeout(dialect: Dialect, connected: Connect) -> None:
    ai, server = await connected(dialect)
    server.will(dialect.speak("Yes."), Answer(end=End.silence))
    await ask(ai)
    heard = await ask(impatient(ai, 0.1))
    assert (heard.code, heard.text) == ("model_timeout", "")
    if not dialect.blocks_threads:
        await asyncio.wait_for(server.connections[-1].wait(), 30)


@every
async def test_silence_after_a_word_is_a_timeout_and_lets_the_connection_go(
    dialect: Dialect, connected: Connect
) -> None:
    ai, server = await connected(dialect)
    server.will(dialect.break_off(SO_FAR, end=End.silence))
    async with ai.ask(PROMPT) as stream:
        pieces = aiter(stream)
        assert await anext(pieces) == SO_FAR
        stream._timeout = 0.05  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(ModelFailure) as caught:
            await anext(pieces)
    assert caught.value.code == "model_timeout"
    await asyncio.wait_for(server.connections[-1].wait(), 30)


@table("dialect, reason, code", ENDS)
async def test_a_reply_that_ends_for_another_reason_is_a_reply(
    dialect: Dialect, reason: str, code: str | None, connected: Connect
) -> None:
    ai, server = await connected(dialect)
    server.will(dialect.speak("Well, ", "you", reason=reason))
    heard = await ask(ai)
    assert (heard.text, heard.code, heard.sentence) == ("Well, you", code, "")


@every
async def test_a_reply_that_is_left_lets_its_connection_go_and_what_it_used_is_estimated(dialect: Dialect) -> None:
    text = "one two three four five six seven"
    async with gateway(dialect) as (ai, server):
        server.will(dialect.break_off(text, end=End.silence))
        async with ai.ask(PROMPT) as stream:
            assert stream.usage == ModelUsage(dialect.model)
            assert await anext(aiter(stream)) == text
        if dialect.frees_connections:
            await asyncio.wait_for(server.connections[0].wait(), 30)
    assert stream.usage.input_tokens > 10
    assert stream.usage.output_tokens == 9


@every
async def test_what_failed_for_a_moment_is_tried_again(dialect: Dialect) -> None:
    busy = replace(dialect.rate_limited, headers={**dialect.rate_limited.headers, "retry-after": "0"})
    async with gateway(dialect, ai_max_retries=1) as (ai, server):
        server.will(busy, dialect.speak("Yes."))
        heard = await ask(ai)
        assert (heard.text, len(server.requests)) == (("", 1) if dialect.has_own_retries else ("Yes.", 2))


@every
async def test_another_model_answers_when_it_is_overloaded(dialect: Dialect) -> None:
    async with gateway(dialect, ai_fallback_models=["demo"]) as (ai, server):
        server.will(dialect.overloaded)
        heard = await ask(ai)
        assert (heard.usage.model, heard.usage.cost, heard.code) == ("demo", Decimal(0), None)
        server.will(dialect.speak("Yes."))
        assert (await ask(ai)).usage.model == dialect.model


@every
async def test_connections_serve_everyone_and_are_closed_at_the_end(dialect: Dialect) -> None:
    async with serve() as server:
        server.will(dialect.speak("Yes."))
        another = f"{dialect.model}-2"
        async with connect(server, dialect, ai_allowed_models=[another]) as ai:
            for model in (dialect.model, another, dialect.model):
                assert (await ask(ai, replace(PROMPT, model=model))).text == "Yes."
            assert len(server.connections) == (1 if dialect.keeps_connections else 3)
        if dialect.closes_connections:
            for connection in server.connections:
                await asyncio.wait_for(connection.wait(), 30)
