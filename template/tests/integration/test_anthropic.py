"""Anthropic's models through its own SDK, against a server that speaks as Anthropic does."""

import asyncio
from contextlib import aclosing

import pytest

from tests.protocols.anthropic_messages import MESSAGES, Messages
from tests.protocols.dialect import KEY, SECRET, SO_FAR, Failure
from tests.protocols.gateway import LINES, Heard, ask, connect, every_failure_of, everything_logged, gateway
from tests.protocols.server import Answer, End, problem, serve


async def test_a_reply_comes_piece_by_piece() -> None:
    said = asyncio.Event()
    *beginning, last = MESSAGES.begin("Yes", ", indeed.")
    async with gateway(MESSAGES) as (ai, server):
        server.will(Answer([*beginning, said, last, *MESSAGES.closing("Yes, indeed.")]))
        async with aclosing(ai.stream(LINES)) as pieces:
            assert await anext(pieces) == "Yes"
            said.set()
            assert [piece async for piece in pieces] == [", indeed."]


@pytest.mark.parametrize("model", ["anthropic:claude-test", "claude-test"])
async def test_what_is_sent(model: str) -> None:
    async with gateway(MESSAGES, model, ai_system_prompt="Be brief.") as (ai, server):
        server.will(MESSAGES.speak("Yes."))
        assert await ask(ai) == Heard("Yes.")
    [request] = server.requests
    assert (request.path, request.headers["authorization"]) == ("/v1/messages", f"Bearer {KEY}")
    assert request.body.items() >= {"model": "claude-test", "stream": True}.items()
    assert [block["text"] for block in request.body["system"]] == ["Be brief."]
    sent = [(message["role"], message["content"]) for message in request.body["messages"]]
    assert sent == [(line.role, [{"type": "text", "text": line.text}]) for line in LINES]


@every_failure_of(MESSAGES)
async def test_a_failure_has_a_code_and_repeats_nothing(dialect: Messages, failure: Failure) -> None:
    with everything_logged() as log:
        async with gateway(dialect) as (ai, server):
            server.will(failure.answer)
            heard = await ask(ai)
    assert (heard.code, heard.text, len(server.requests)) == (failure.code, failure.text, 1)
    assert SECRET not in str(heard.failure)
    assert "model failed" in log.getvalue()
    assert SECRET not in log.getvalue()


@pytest.mark.parametrize("text", ["", SO_FAR])
async def test_silence_is_a_timeout(text: str) -> None:
    async with gateway(MESSAGES, ai_timeout=0.25) as (ai, server), asyncio.timeout(30):
        server.will(MESSAGES.break_off(text, end=End.silence) if text else Answer(end=End.silence))
        heard = await ask(ai)
        assert (heard.code, heard.text) == ("model_timeout", text)


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded", "newer_than_this_library"])
async def test_a_reply_that_ends_early_for_a_reason_is_a_reply(reason: str) -> None:
    async with gateway(MESSAGES) as (ai, server):
        server.will(MESSAGES.stop_early("Well, ", "you", reason=reason))
        assert await ask(ai) == Heard("Well, you")


async def test_what_failed_for_a_moment_is_tried_again() -> None:
    async with gateway(MESSAGES, ai_max_retries=1) as (ai, server):
        server.will(problem(529, {}, retry_after_ms="1"), MESSAGES.speak("Yes."))
        assert await ask(ai) == Heard("Yes.")
        assert len(server.requests) == 2


async def test_one_connection_serves_everyone_and_is_closed_at_the_end() -> None:
    async with serve() as server:
        server.will(MESSAGES.speak("Yes."))
        async with connect(server, MESSAGES) as ai:
            for _ in range(3):
                assert await ask(ai) == Heard("Yes.")
            [connection] = server.connections
            assert not connection.is_set()
        await asyncio.wait_for(connection.wait(), 30)


async def test_a_reply_that_is_given_up_lets_its_connection_go() -> None:
    async with gateway(MESSAGES) as (ai, server):
        server.will(MESSAGES.break_off("Yes", end=End.silence))
        async with aclosing(ai.stream(LINES)) as pieces:
            assert await anext(pieces) == "Yes"
        await asyncio.wait_for(server.connections[0].wait(), 30)
