"""Tests that what a model thought before a tool call is sent back to it unchanged, with its signature."""

from typing import Any

from tests.protocols.anthropic_messages import MESSAGES
from tests.protocols.dialect import Call
from tests.protocols.gateway import gateway
from tests.protocols.rounds import ASKED, ask, history
from tests.protocols.server import event


def block(kind: str, **data: Any) -> bytes:
    return event({"type": f"content_block_{kind}", "index": 0, **data}, f"content_block_{kind}")


THOUGHT = [
    block("start", content_block={"type": "thinking", "thinking": "", "signature": ""}),
    block("delta", delta={"type": "thinking_delta", "thinking": "Rome, then."}),
    block("delta", delta={"type": "signature_delta", "signature": "c2lnbmVk"}),
    block("stop"),
]


async def test_a_thought_goes_back_as_it_came() -> None:
    start, *rest = MESSAGES.calling("", Call("call_1", "weather", ('{"city": "Rome"}',)))
    async with gateway(MESSAGES) as (ai, server):
        server.will(MESSAGES.answer([start, *THOUGHT, *rest]), MESSAGES.speak("Yes."))
        first = await ask(ai, ASKED)
        assert (first.text, first.message.text, len(first.message.tool_calls)) == ("", "", 1)
        assert (await ask(ai, *history(first.message))).text == "Yes."
    thought, call = server.requests[1].body["messages"][1]["content"]
    assert thought == {"type": "thinking", "thinking": "Rome, then.", "signature": "c2lnbmVk"}
    assert call["type"] == "tool_use"
