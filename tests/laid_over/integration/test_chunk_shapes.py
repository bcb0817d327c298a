"""Tests that an answer is read as it was meant, in whatever shape a server of Chat Completions streams it.

`CHUNK_SHAPES` is how many shapes are drawn, from the seed `CHUNK_SEED` on; a failure names the seed of its shape.
"""

import json
import os

import pytest

from app.services.ai import Prompt, ToolSpec, UserMessage
from tests.protocols import gateway
from tests.protocols.chunk_shapes import Meaning, draw
from tests.protocols.gateway import Heard
from tests.protocols.openai_chat import CHAT_COMPLETIONS

NUMBER = int(os.environ.get("CHUNK_SHAPES", "60"))
FIRST_SEED = int(os.environ.get("CHUNK_SEED", "0"))
CODES = {"reason": None, "done": "no_finish_reason", "usage": "no_finish_reason", "nothing": "model_disconnected"}
TOOLS = [ToolSpec(f"tool_{number}", "Does something.", {"type": "object", "properties": {}}) for number in range(3)]


@pytest.mark.parametrize("with_tools", [False, True])
async def test_whatever_the_shape_the_answer_is_the_same(with_tools: bool) -> None:
    prompt = Prompt([UserMessage("Well?")], tools=TOOLS if with_tools else ())
    async with gateway.gateway(CHAT_COMPLETIONS, "openai-chat:some-model") as (ai, server):
        for seed in range(FIRST_SEED, FIRST_SEED + NUMBER):
            meaning, answer = draw(seed, with_tools=with_tools)
            server.will(answer)
            heard = await gateway.ask(ai, prompt)
            assert _summary(heard) == _expected(meaning, heard), f"the shape of seed {seed}, with_tools={with_tools}"


def _summary(heard: Heard) -> tuple[object, ...]:
    calls = [(call.name, json.loads(call.arguments)) for call in heard.message.tool_calls]
    assert len({call.id for call in heard.message.tool_calls}) == len(calls)
    assert heard.message.text == heard.text or heard.code == "model_disconnected"
    return heard.text, heard.reasoning, calls, heard.code, (heard.usage.input_tokens, heard.usage.output_tokens)


def _expected(meaning: Meaning, heard: Heard) -> tuple[object, ...]:
    """Takes the usage as it is where no server has stated it: it is an estimate."""
    calls = [] if meaning.end == "nothing" else [(name, dict(arguments)) for name, arguments in meaning.calls]
    usage = meaning.usage or (heard.usage.input_tokens, heard.usage.output_tokens)
    return meaning.text, meaning.thought, calls, CODES[meaning.end], usage
