"""OpenAI's models through its own SDK, against a server that speaks as OpenAI does."""

import asyncio
from contextlib import aclosing

import pytest

from tests.protocols.dialect import KEY, SECRET, SO_FAR, Failure
from tests.protocols.gateway import LINES, Heard, ask, connect, every_failure_of, everything_logged, gateway
from tests.protocols.openai_chat import CHAT_COMPLETIONS
from tests.protocols.openai_responses import RESPONSES, OpenAIDialect
from tests.protocols.server import Answer, End, problem, serve

DIALECTS = [RESPONSES, CHAT_COMPLETIONS]
both = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.model)


@both
async def test_a_reply_comes_piece_by_piece(dialect: OpenAIDialect) -> None:
    said = asyncio.Event()
    *beginning, last = dialect.begin("Yes", ", indeed.")
    async with gateway(dialect) as (ai, server):
        server.will(Answer([*beginning, said, last, *dialect.closing("Yes, indeed.")]))
        async with aclosing(ai.stream(LINES)) as pieces:
            assert await anext(pieces) == "Yes"
            said.set()
            assert [piece async for piece in pieces] == [", indeed."]


async def test_what_the_responses_api_is_sent() -> None:
    async with gateway(RESPONSES, ai_system_prompt="Be brief.") as (ai, server):
        server.will(RESPONSES.speak("Yes."))
        await ask(ai)
    [request] = server.requests
    assert (request.path, request.headers["authorization"]) == ("/v1/responses", f"Bearer {KEY}")
    assert request.body.items() >= {"model": "gpt-5-test", "stream": True, "instructions": "Be brief."}.items()
    assert [(item["role"], item["content"]) for item in request.body["input"]] == [(x.role, x.text) for x in LINES]


async def test_what_the_chat_completions_api_is_sent() -> None:
    async with gateway(CHAT_COMPLETIONS, ai_system_prompt="Be brief.") as (ai, server):
        server.will(CHAT_COMPLETIONS.speak("Yes."))
        await ask(ai)
    [request] = server.requests
    assert (request.path, request.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert request.body.items() >= {"model": "gpt-5-test", "stream": True}.items()
    sent = [(message["role"], message["content"]) for message in request.body["messages"]]
    assert sent == [("system", "Be brief."), *((line.role, line.text) for line in LINES)]


async def test_a_bare_name() -> None:
    async with gateway(RESPONSES, "gpt-5-test") as (ai, server):
        server.will(RESPONSES.speak("Yes."))
        assert await ask(ai) == Heard("Yes.")
        assert server.requests[0].body["model"] == "gpt-5-test"


@every_failure_of(*DIALECTS)
async def test_a_failure_has_a_code_and_repeats_nothing(dialect: OpenAIDialect, failure: Failure) -> None:
    with everything_logged() as log:
        async with gateway(dialect) as (ai, server):
            server.will(failure.answer)
            heard = await ask(ai)
    assert (heard.code, heard.text, len(server.requests)) == (failure.code, failure.text, 1)
    assert SECRET not in str(heard.failure)
    assert "model failed" in log.getvalue()
    assert SECRET not in log.getvalue()


@both
@pytest.mark.parametrize("text", ["", SO_FAR])
async def test_silence_is_a_timeout(dialect: OpenAIDialect, text: str) -> None:
    async with gateway(dialect, ai_timeout=0.25) as (ai, server), asyncio.timeout(30):
        server.will(dialect.break_off(text, end=End.silence) if text else Answer(end=End.silence))
        heard = await ask(ai)
        assert (heard.code, heard.text) == ("model_timeout", text)


@both
@pytest.mark.parametrize("reason", ["length", "max_output_tokens", "newer_than_this_library"])
async def test_a_reply_that_ends_early_for_a_reason_is_a_reply(dialect: OpenAIDialect, reason: str) -> None:
    async with gateway(dialect) as (ai, server):
        server.will(dialect.stop_early("Well, ", "you", reason=reason))
        assert await ask(ai) == Heard("Well, you")


@both
async def test_what_failed_for_a_moment_is_tried_again(dialect: OpenAIDialect) -> None:
    async with gateway(dialect, ai_max_retries=1) as (ai, server):
        server.will(problem(500, {}, retry_after_ms="1"), dialect.speak("Yes."))
        assert await ask(ai) == Heard("Yes.")
        assert len(server.requests) == 2


@both
async def test_one_connection_serves_everyone_and_is_closed_at_the_end(dialect: OpenAIDialect) -> None:
    async with serve() as server:
        server.will(dialect.speak("Yes."))
        async with connect(server, dialect) as ai:
            for _ in range(3):
                assert await ask(ai) == Heard("Yes.")
            [connection] = server.connections
            assert not connection.is_set()
        await asyncio.wait_for(connection.wait(), 30)


@both
async def test_a_reply_that_is_given_up_lets_its_connection_go(dialect: OpenAIDialect) -> None:
    async with gateway(dialect) as (ai, server):
        server.will(dialect.break_off("Yes", end=End.silence))
        async with aclosing(ai.stream(LINES)) as pieces:
            assert await anext(pieces) == "Yes"
        await asyncio.wait_for(server.connections[0].wait(), 30)
