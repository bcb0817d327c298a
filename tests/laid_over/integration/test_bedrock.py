"""Tests what Amazon Bedrock's client does otherwise than the others."""

import asyncio
from dataclasses import replace

from tests.protocols.bedrock_converse import CONVERSE
from tests.protocols.gateway import PROMPT, ask, gateway
from tests.protocols.server import Answer, End


async def test_an_empty_system_prompt_is_left_out() -> None:
    async with gateway(CONVERSE) as (ai, server):
        server.will(CONVERSE.speak("Yes."))
        assert (await ask(ai, replace(PROMPT, instructions=""))).text == "Yes."


async def test_a_thread_that_waits_for_nothing_is_freed_after_the_deadline() -> None:
    async with gateway(CONVERSE, ai_timeout=2) as (ai, server), asyncio.timeout(30):
        server.will(CONVERSE.speak("Yes."), Answer(end=End.silence))
        await ask(ai)  # a client that is not open yet would be given up before it sends the request
        assert (await ask(ai)).code == "model_timeout"
        await server.connections[-1].wait()
